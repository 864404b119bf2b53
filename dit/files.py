"""Files that are there whole or not at all.

Everything is written beside its target under a temporary name, flushed to the disk and renamed; a reader never meets
half a file, and a fault leaves the older one in place.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from dit.errors import ConfigError, DitError
from dit.failpoints import failpoint

TEMPORARY_PREFIX = ".tmp-"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Of files that can run code when they are read; the converter and `--reference` alone open any, and only safely."""
ASSETS = Path(__file__).resolve().parent / "assets"
"""What ships with the package: exported folders by zoo name, autoencoders in `vae/`, classifiers in `classifier/`."""


def cache_folder(kind: str) -> Path:
    """Return the folder of all caches of a kind: $DIT_CACHE/kind, else ~/.cache/dit/kind."""
    return Path(os.environ.get("DIT_CACHE") or Path.home() / ".cache" / "dit") / kind


@contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Give a file that becomes `path` when the block ends well, and vanishes when it does not; parent folders are made.

    It has the mode that the umask gives.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        failpoint(f"write:{path.name}")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically, with the mode that the umask gives; parent folders are made."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically; NaN and infinity are refused, JSON has no word for them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_writable(path: str | Path, option: str) -> None:
    """Refuse a file that could not be written in the end, before the work that it is to hold.

    Raises:
        ConfigError: naming the option, and the folder that is none or can't be written.
    """
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{option}: expected a place that can be written, found {folder}: {reason}") from None


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        DitError: the file is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DitError(f"{path}: expected a JSON file, found nothing there") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DitError(f"{path}: expected JSON, found {error}") from None


def begin_folder(settings: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Claim a new folder for the work of these facts, or return those that it was claimed for.

    Args:
        settings: JSON file that holds them, in the folder.
        facts: plain values.

    Raises:
        ConfigError: the folder holds other things.
    """
    folder = settings.parent
    if not settings.is_file():
        # Another process may be about to write the settings, or was killed then, or has written them by now.
        is_free = not folder.exists() or (folder.is_dir() and all(map(_is_temporary, folder.iterdir())))
        if is_free:
            write_json(settings, facts)
        elif not settings.is_file():
            raise ConfigError(f"{folder}: expected a new or empty folder, found files there; choose another --out")
    return read_json(settings)


def check_same(settings: Path, found: Mapping[str, Any], now: Mapping[str, Any], *, remedy: str) -> None:
    """Refuse to go on with work that was begun with other facts.

    Args:
        settings: file that holds those that it was begun with.
        found: those.
        now: what is asked for.
        remedy: what to do other than to go on.

    Raises:
        ConfigError: naming the first that differs, and both values.
    """
    for key, value in now.items():
        if found.get(key) != value:
            there, here = (text if len(text) <= 60 else f"{text[:57]}..." for text in (str(found.get(key)), str(value)))
            raise ConfigError(
                f"{settings}: {key} is {there} there and {here} now; go on with the same settings, {remedy}, or remove "
                f"{settings.parent}"
            )


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY_PREFIX)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(path: str | Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: str | Path) -> None:
    """Flush every file and folder below `folder` to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())
        fsync_folder(root)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        ConfigError: `path` exists and is not an empty folder.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path}: expected a new or empty folder, found files there; choose another or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        make_readable(temporary)
        fsync_tree(temporary)
        failpoint(f"rename:{path.name}")
        if path.exists():
            path.rmdir()
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    fsync_folder(path.parent)


def make_readable(folder: str | Path) -> None:
    """Give every file below `folder` the mode that the umask gives: safetensors writes its files with 0600."""
    umask = os.umask(0)
    os.umask(umask)
    for root, _, names in os.walk(folder):
        for name in names:
            os.chmod(os.path.join(root, name), 0o666 & ~umask)
