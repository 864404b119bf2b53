"""Files from the Hub and from other addresses, of one commit, with every hash checked here.

A damaged download can reach the cache of the Hub's client under the right name, so every weight file is hashed; a bad
one is deleted and fetched once more.
"""

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dit.errors import ConfigError, DitError
from dit.files import sha256
from dit.run_files import METRICS_NAME, RECIPE_NAME
from dit.zoo.entries import SourceEntry
from dit.zoo.hub.errors import HUB_ID, explained, is_of_the_network

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEEDED = (
    "config.json", "model*.safetensors", "model.safetensors.index.json",
    "model_index.json", "dit_config.json", "scheduler/scheduler_config.json",
    "transformer/config.json", "transformer/*.safetensors", "transformer/*.safetensors.index.json",
    "vae/config.json", "vae/*.safetensors", "vae/*.safetensors.index.json",
)  # fmt: skip
"""What a pipeline is loaded from, in both layouts."""
EXTRAS = ("README.md", RECIPE_NAME, METRICS_NAME, "eval.json", "*.png")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CHUNK = 2**20


@dataclass(frozen=True)
class HubId:
    """A repository, and what of it."""

    repository: str
    revision: str | None

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> "HubId | None":
        """Read `org/name[@revision]`; None where it is not of that form.

        Raises:
            ConfigError: two revisions are given.
        """
        repository, at, own = text.partition("@")
        if not HUB_ID.fullmatch(repository) or (at and not own):
            return None
        if at and revision is not None and revision != own:
            raise ConfigError(f"{text}: expected one revision, found {own!r} and {revision!r}")
        return cls(repository, own or revision)


def download(hub_id: HubId, patterns: Iterable[str], *, api: "HfApi | None" = None) -> tuple[Path, str]:
    """Download files of one commit into the Hub client's cache, and check the hash of every weight file.

    Returns:
        The folder of the snapshot, and the commit.

    Raises:
        DitError: naming the repository and the reason.
    """
    from huggingface_hub import HfApi

    api = api or HfApi(library_name="dit")
    repository = hub_id.repository
    with explained(repository, hub_id.revision):
        commit = api.resolve_revision(repository, revision=hub_id.revision).resolved
        hashes = _announced_hashes(api, repository, commit)
        if hashes is not None:
            _refuse_pickles(repository, hashes)
        for _ in range(2):
            snapshot = _snapshot(api, repository, commit, patterns)
            damaged = _damaged_files(snapshot, hashes or {})
            if not damaged:
                return snapshot, commit
            for path in damaged:
                _delete(path)
    raise DitError(f"{repository}: {damaged[0].name} was damaged on the way, twice; its SHA-256 is not the Hub's")


def _snapshot(api: "HfApi", repository: str, commit: str, patterns: Iterable[str]) -> Path:
    found = api.snapshot_download(
        repository, revision=commit, allow_patterns=list(patterns), ignore_patterns=["*.fp16.*", "*.non_ema.*"]
    )
    return Path(found)


def _announced_hashes(api: "HfApi", repository: str, commit: str) -> dict[str, str] | None:
    """Return the hash of each of a commit's files, SHA-256 of large ones and git's of others, by name.

    None where the Hub can't be asked and the cache has to do.
    """
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        siblings = api.model_info(repository, revision=commit, files_metadata=True).siblings or []
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return None
    except (OfflineModeIsEnabled, OSError):
        return None
    except Exception as error:
        if is_of_the_network(error):
            return None
        raise
    return {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id or "" for file in siblings}


def _refuse_pickles(repository: str, names: Iterable[str]) -> None:
    names = list(names)
    if any(name.endswith(".safetensors") for name in names):
        return
    pickles = [name for name in names if name.endswith(PICKLES)]
    found = f"only {', '.join(pickles[:3])}: pickles can run code and are not opened" if pickles else "no weights"
    raise DitError(
        f"{repository}: expected safetensors, found {found}"
        + ("; download one yourself and give it to `dit convert` if you trust it" if pickles else "")
    )


def _damaged_files(snapshot: Path, hashes: Mapping[str, str]) -> list[Path]:
    """Return the weight files whose bytes are not what the Hub announced."""
    paths = sorted(snapshot.rglob("*.safetensors"))
    return [path for path in paths if not _is_whole(path, hashes.get(path.relative_to(snapshot).as_posix()))]


def _is_whole(path: Path, announced: str | None) -> bool:
    # The client's cache links each file to `blobs/<announced hash>`, which may be a link itself.
    expected = announced or (Path(os.readlink(path)).name if path.is_symlink() else "")
    if re.fullmatch("[0-9a-f]{64}", expected):
        return sha256(path) == expected
    if re.fullmatch("[0-9a-f]{40}", expected):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == expected
    return True


def _delete(path: Path) -> None:
    """Remove a file of the client's cache: the bytes, and every link on the way to them."""
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def download_file(hub_id: HubId, file: str, *, api: "HfApi | None" = None) -> tuple[Path, str]:
    """Download one file that an entry names, whatever its format, and check its hash."""
    from huggingface_hub import HfApi

    api = api or HfApi(library_name="dit")
    with explained(hub_id.repository, hub_id.revision):
        commit = api.resolve_revision(hub_id.repository, revision=hub_id.revision).resolved
        hashes = _announced_hashes(api, hub_id.repository, commit) or {}
        for _ in range(2):
            path = Path(api.hf_hub_download(hub_id.repository, file, revision=commit))
            if _is_whole(path, hashes.get(file)):
                return path, commit
            _delete(path)
    raise DitError(f"{hub_id.repository}: {file} was damaged on the way, twice; its SHA-256 is not the Hub's")


def download_address(source: SourceEntry, folder: Path) -> Path:
    """Download a file from outside of the Hub; what an earlier attempt left is continued.

    Raises:
        DitError: it can't be reached, breaks off, or has another SHA-256.
    """
    assert source.address is not None
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.address.rpartition("/")[2]
    part = target.with_name(target.name + ".part")
    if not target.exists():
        try:
            _continue_download(source.address, part)
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            detail = getattr(error, "reason", None) or type(error).__name__
            raise DitError(f"{source.address}: it can't be downloaded ({detail}); run the same command again") from None
        part.rename(target)
    if source.sha256 is not None and (found := sha256(target)) != source.sha256:
        target.unlink()
        raise DitError(f"{source.address}: expected SHA-256 {source.sha256}, found {found}; it was deleted")
    return target


def _continue_download(address: str, part: Path) -> None:
    from tqdm import tqdm

    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=60) as response:
        if response.status != 206:
            start = 0
        size = start + int(response.headers.get("Content-Length") or 0)
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(total=size or None, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if size and part.stat().st_size != size:
        raise ConnectionError(f"{part.stat().st_size} of {size} bytes")
