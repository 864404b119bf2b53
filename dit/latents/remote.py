"""Latents at an address: their files are fetched when they are needed, into a folder of bounded size.

    hf://datasets/ORG/NAME[@REVISION][/FOLDER]    s3://BUCKET/FOLDER    whatever fsspec opens

All processes of a machine share the folder. A part's lock is held while it is fetched or opened; when room is needed
the parts that were opened longest ago go first, without those whose lock is held. One that is mapped stays readable.

    CACHE/remote/HASH of index.json/index.json, part-00000.safetensors, ...
"""

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dit.errors import ConfigError, DitError
from dit.files import TEMPORARY_PREFIX, cache_folder, sha256, write_bytes
from dit.hub_errors import explained
from dit.latents.dataset import LatentDataset
from dit.latents.shards import INDEX_NAME, STATISTICS_NAME, Index, Part, PartEntry, read_index, read_part

HUB = "hf"
NUM_SPARE = 4
"""Parts that are kept open besides those of the window, for what is read ahead."""
_PART = re.compile(r"part-\d+\.safetensors")


def is_address(source: str) -> bool:
    """Tell whether a source is an address, not a path or a name."""
    return re.match(r"[a-z0-9]+://", source) is not None


class Address:
    """A folder at an address; one on the Hub stays at the commit that it was at first.

    Raises:
        ConfigError: nothing here opens such an address.
        DitError: it is not there, or may not be read.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with _told(url):
            from fsspec.core import url_to_fs

            self._files, self._path = url_to_fs(self.url, skip_instance_cache=True)
            if self.url.startswith(f"{HUB}://"):
                self._path = _at_its_commit(self._files, self._path)

    def names(self, folder: str = "") -> list[str]:
        """List the files and folders in a folder of it."""
        with _told(self.url):
            return sorted(str(name).rpartition("/")[2] for name in self._files.ls(self._join(folder), detail=False))

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file of it, `name` in `/` notation."""
        with _told(f"{self.url}/{name}"):
            self._files.get_file(self._join(name), str(target))

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        with TemporaryDirectory(prefix="dit-") as temporary:
            self.fetch(name, target := Path(temporary) / "file")
            return target.read_bytes()

    def _join(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/")


class LocalParts:
    """Copies of a remote cache's parts.

    Args:
        address: of the parts' repository or bucket.
        folder: of the cache, in `/` notation below the address; "" for the address itself.
        root: folder of all copies.
        limit: bytes that all copies may take, besides those that are being fetched.
    """

    def __init__(self, address: Address, folder: str, root: Path, limit: int) -> None:
        self._address, self._prefix, self._root, self._limit = address, folder and f"{folder}/", root, limit
        content = address.read(f"{self._prefix}{INDEX_NAME}")
        self.folder = root / hashlib.sha256(content).hexdigest()[:24]
        if not (self.folder / INDEX_NAME).is_file():
            write_bytes(self.folder / INDEX_NAME, content)
        self.index: Index = read_index(self.folder)
        for entry in self.index.parts:
            if not _PART.fullmatch(entry.file):
                raise DitError(
                    f"{address.url}: {INDEX_NAME}: expected parts part-NUMBER.safetensors, found {entry.file!r}"
                )
        if STATISTICS_NAME in address.names(folder) and not (self.folder / STATISTICS_NAME).is_file():
            write_bytes(self.folder / STATISTICS_NAME, address.read(f"{self._prefix}{STATISTICS_NAME}"))

    def open(self, number: int) -> Part:
        """Map a part into memory, and fetch it before where it is not here.

        Raises:
            DitError: it can't be fetched, or is not the part that index.json describes.
        """
        entry = self.index.parts[number]
        path = self.folder / entry.file
        with _locked(path):
            if not path.is_file() or path.stat().st_size != entry.num_bytes:
                self._fetch(entry, path)
            now = time.time_ns()  # the system's own clock of files goes by milliseconds
            os.utime(path, ns=(now, now))
            return read_part(path, fingerprint=self.index.fingerprint)

    def _fetch(self, entry: PartEntry, path: Path) -> None:
        temporary = path.with_name(TEMPORARY_PREFIX + path.name)
        digest = ""
        for _ in range(2):
            self._make_room(entry.num_bytes)
            self._address.fetch(self._prefix + entry.file, temporary)
            digest = sha256(temporary)
            if digest == entry.sha256:
                os.replace(temporary, path)
                return
            temporary.unlink()
        raise DitError(
            f"{self._address.url}/{self._prefix}{entry.file}: expected sha256 {entry.sha256}, found {digest}, twice; "
            "the file or its way here is damaged"
        )

    def _make_room(self, num_bytes: int) -> None:
        """Remove the copies that were opened longest ago until so many more bytes fit."""
        copies = []
        for path in self._root.glob("*/*part-*.safetensors"):
            with suppress(FileNotFoundError):  # another process makes room too
                facts = path.stat()
                copies.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if total + num_bytes <= self._limit:
                return
            with _locked(path, wait=False) as is_free:
                if is_free:
                    path.unlink(missing_ok=True)
                    total -= size


def open_remote(address: Address, folder: str, *, cache: str | None, limit: int, num_open: int | None) -> LatentDataset:
    """Open a cache at an address.

    Args:
        address: of a repository or bucket.
        folder: of the cache, below the address.
        cache: folder of local copies; None: that of all caches.
        limit: bytes that copies may take.
        num_open: parts that are in use at a time, None: any of them at any time.

    Raises:
        ConfigError: the limit has no place for the parts that are needed at a time.
        DitError: the cache is not there, or is damaged.
    """
    root = (cache_folder("latents") if cache is None else Path(cache).expanduser()) / "remote"
    parts = LocalParts(address, folder, root, limit)
    sizes = sorted((entry.num_bytes for entry in parts.index.parts), reverse=True)
    num_kept = len(sizes) if num_open is None else min(num_open + NUM_SPARE, len(sizes))
    if (needed := sum(sizes[:num_kept])) > limit:
        advice = "data.shuffle: shards needs less" if num_open is None else "lower data.shuffle_window"
        raise ConfigError(
            f"latents.cache_limit: expected at least {needed / 1e9:.3g} (GB) for the {num_kept} parts of {address.url} "
            f"that are in use at a time, found {limit / 1e9:.3g}; {advice}"
        )
    return LatentDataset(parts.folder, parts.index, lru_cache(num_kept)(parts.open))


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a part, and tell whether it was had; the part being fetched has the same one."""
    lock = path.with_name(f".{path.name.removeprefix(TEMPORARY_PREFIX)}.lock")
    with open(lock, "wb") as file:  # of this opening alone: threads exclude each other too
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise DitError(f"{lock}: {error.strerror}; set latents.cache to a folder on a local disk") from None
        yield True


def _at_its_commit(files: Any, path: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_file_system import HfFileSystemResolvedRepositoryPath

    found = files.resolve_path(path)
    if not isinstance(found, HfFileSystemResolvedRepositoryPath):  # a bucket has no commits
        return path
    api = HfApi(library_name="dit")
    commit = api.repo_info(found.repo_id, repo_type=found.repo_type, revision=found.revision).sha
    kind = "" if found.repo_type == "model" else f"{found.repo_type}s/"
    return f"{kind}{found.repo_id}@{commit}/{found.path_in_repo}".rstrip("/")


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn the errors of a file system into one line each, without addresses or headers that may hold a secret."""
    is_of_hub = url.startswith(f"{HUB}://")
    revision = re.search(r"@([^/]+)", url)
    try:
        with explained(url, revision and revision[1]) if is_of_hub else nullcontext():
            try:
                yield
            except FileNotFoundError as error:
                if is_of_hub and error.__cause__ is not None:
                    raise
                raise DitError(f"{url}: expected latents, found nothing there; check the address") from None
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise DitError(f"{url}: the disk is full; lower latents.cache_limit or move latents.cache") from None
    except DitError:
        raise
    except (ImportError, ValueError) as error:  # fsspec names the package that is missing, or the protocols that it has
        raise ConfigError(f"{url}: {str(error).strip().splitlines()[0].strip()}") from None
    except PermissionError as error:
        raise DitError(f"{error.filename or url}: there is no permission; check the credentials for {url}") from None
    except Exception as error:  # every file system has errors of its own
        raise DitError(f"{url}: it can't be read ({type(error).__name__}); check address and credentials") from None
