"""A file from outside of the Hub, with its hash checked and what an earlier attempt left continued."""

import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from dit.display import Progress
from dit.errors import DitError
from dit.files import sha256

CHUNK = 2**20


def download_address(address: str, folder: Path, digest: str | None = None) -> Path:
    """Download a file from outside of the Hub; what an earlier attempt left is continued.

    Args:
        address: where it is.
        folder: where it is kept.
        digest: its SHA-256, where it is known.

    Raises:
        DitError: it can't be reached, breaks off, or has another SHA-256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / urlsplit(address).path.rpartition("/")[2]
    part = target.with_name(target.name + ".part")
    if not target.exists():
        try:
            _continue_download(address, part)
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            detail = getattr(error, "reason", None) or type(error).__name__
            raise DitError(f"{address}: it can't be downloaded ({detail}); run the same command again") from None
        part.rename(target)
    try:
        check_hash(target, digest)
    except DitError:
        target.unlink()  # or the next attempt would take it
        raise
    return target


def check_hash(path: Path, expected: str | None) -> str:
    """Return a file's SHA-256, and refuse a file whose content is not what was published, where that is known.

    Raises:
        DitError: naming the file and both hashes.
    """
    if (found := sha256(path)) != expected and expected is not None:
        raise DitError(
            f"{path}: expected SHA-256 {expected}, found {found}: another file, or a damaged one; download it again"
        )
    return found


def _continue_download(address: str, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=60) as response:
        if response.status != 206:
            start = 0
        size = start + int(response.headers.get("Content-Length") or 0)
        with (
            open(part, "ab" if start else "wb") as file,
            Progress(size / 1e6, part.stem, unit="MB", start=start / 1e6, enabled=bool(size)) as shown,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                shown.advance(len(chunk) / 1e6)
    if size and part.stat().st_size != size:
        raise ConnectionError(f"{part.stat().st_size} of {size} bytes")
