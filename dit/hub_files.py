"""Files from the Hub, of one commit, with every hash checked here.

A damaged download can reach the cache of the Hub's client under the right name, so every weight file is hashed; a bad
one is fetched once more.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dit.errors import DitError
from dit.files import PICKLE_SUFFIXES, sha256
from dit.hub_errors import explained, is_of_the_network
from dit.hub_ids import HubId

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def download(
    hub_id: HubId, patterns: Iterable[str], *, api: "HfApi | None" = None, may_be_pickle: bool = False
) -> tuple[Path, str]:
    """Download files of one commit into the Hub client's cache, and check the hash of every weight file.

    Args:
        hub_id: repository and revision.
        patterns: names of the files, or shell patterns.
        api: client of the Hub; that of the environment by default.
        may_be_pickle: whether a file that can run code may be fetched, for the converter.

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
        if hashes is not None and not may_be_pickle:
            _refuse_pickles(repository, hashes)
        snapshot = Path(
            api.snapshot_download(
                repository,
                revision=commit,
                allow_patterns=list(patterns),
                ignore_patterns=["*.fp16.*", "*.non_ema.*"],
                # A failing download closes the connections of its siblings, which then fail with errors of many kinds.
                max_workers=1,
            )
        )
        for path in sorted(path for path in snapshot.rglob("*") if path.suffix in (".safetensors", *PICKLE_SUFFIXES)):
            _check(api, repository, commit, path.relative_to(snapshot).as_posix(), path, hashes or {})
    return snapshot, commit


def _check(api: "HfApi", repository: str, commit: str, file: str, path: Path, hashes: Mapping[str, str]) -> None:
    """Hash a file of the cache, and fetch it once more where it is not what the Hub announced."""
    if _is_whole(path, hashes.get(file)):
        return
    api.hf_hub_download(repository, file, revision=commit, force_download=True)
    if not _is_whole(path, hashes.get(file)):
        path.unlink()  # or it would be taken when the Hub can't be asked
        raise DitError(f"{repository}: {path.name} was damaged on the way, twice; its SHA-256 is not the Hub's")


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
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    found = f"only {', '.join(pickles[:3])}: pickles can run code and are not opened" if pickles else "no weights"
    raise DitError(
        f"{repository}: expected safetensors, found {found}"
        + ("; download one yourself and give it to `dit convert` if you trust it" if pickles else "")
    )


def _is_whole(path: Path, announced: str | None) -> bool:
    """Compare a file with its SHA-256, or with git's hash of small ones."""
    if re.fullmatch("[0-9a-f]{64}", announced or ""):
        return sha256(path) == announced
    if re.fullmatch("[0-9a-f]{40}", announced or ""):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == announced
    return True
