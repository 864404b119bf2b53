"""The checkpoints of a run on disk: there whole or not at all, verified before they are believed.

    root/step-00000100/{<name>.safetensors, ..., state.json, manifest.json}

Where several processes wrote it, tensors of a name may lie in parts, <name>-00001-of-00002.safetensors and so on, with
<name>.safetensors.index.json, which says what is where; each tensor is whole.

A checkpoint is written into a temporary folder beside its place, flushed, listed in a manifest with the size and
SHA-256 of every file, and renamed; only then are older ones deleted, but none that was written to be kept. Reading
takes the newest folder whose manifest verifies and says why newer ones were passed over. Only safetensors and JSON are
read: nothing here can run code.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit.errors import DitError
from dit.failpoints import failpoint
from dit.files import TEMPORARY_PREFIX, new_folder, read_json, sha256
from dit.launcher import ALONE, Share

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STATE = "state.json"
KEPT = "is_kept"
"""Entry of a manifest: whether the checkpoint is never deleted."""
STEP_FOLDER = re.compile(r"step-(\d{8,})")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint; its tensors are read from disk when asked for."""

    path: Path
    """The folder `step-XXXXXXXX`."""
    step: int
    """Optimizer steps made when it was written."""
    state: dict[str, Any]
    """What is not a tensor: the content of state.json."""
    passed_over: tuple[str, ...] = ()
    """One line for each newer folder that did not verify, saying why."""

    def holds(self, name: str) -> bool:
        """Tell whether `<name>.safetensors`, or its parts, are part of this checkpoint."""
        return any(path.is_file() for path in (self.path / f"{name}.safetensors", index_of(self.path, name)))

    def tensors(self, name: str) -> "dict[str, Tensor]":
        """Read `<name>.safetensors`, or its parts: every tensor by name, on the CPU, in memory once it is looked at.

        Raises:
            DitError: the checkpoint has no such file, or it is not safetensors.
        """
        if not self.holds(name):
            raise DitError(f"{self.path / f'{name}.safetensors'}: expected the tensors of {name!r}, found no such file")
        found: dict[str, Tensor] = {}
        for path in files_of(self.path, name):
            found |= _read_tensors(path)
        return found


def index_of(folder: Path, name: str) -> Path:
    """Return the place of the index of the parts of `<name>.safetensors`."""
    return folder / f"{name}.safetensors.index.json"


def files_of(folder: Path, name: str) -> list[Path]:
    """Return `<name>.safetensors` of a checkpoint that was verified, or its parts."""
    if not (index := index_of(folder, name)).is_file():
        return [folder / f"{name}.safetensors"]
    return [folder / part for part in sorted(set(read_json(index)["weight_map"].values()))]


def _read_tensors(path: Path) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DitError(f"{path}: expected safetensors, found {error}") from None


def save(
    root: str | Path,
    step: int,
    tensors: "Mapping[str, Mapping[str, Tensor]]",
    state: Mapping[str, Any],
    *,
    is_kept: bool = False,
) -> Path:
    """Write one checkpoint, whole or not at all.

    A folder of this step that is already there is kept if it verifies (the run passed this step before) and replaced
    if it does not.

    Args:
        root: the folder that holds the checkpoints.
        step: optimizer steps made so far.
        tensors: file name without suffix -> tensors by name.
        state: everything else, as JSON.
        is_kept: whether `prune` never deletes it.

    Returns:
        The checkpoint's folder.

    Raises:
        DitError: it could not be written, for example because the disk is full; older checkpoints are untouched.
    """
    target = folder_of(root, step)
    with explained(target):
        if is_there(target):
            return target
        with new_folder(target) as folder:
            for name, values in tensors.items():
                write_tensors(folder / f"{name}.safetensors", values)
                failpoint(f"checkpoint-{step}:{name}")
            finish(folder, step, state, is_kept=is_kept)
        failpoint(f"checkpoint-{step}:renamed")
    return target


def folder_of(root: str | Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return Path(root) / f"step-{step:08d}"


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turn what can go wrong with the disk into a `DitError` that names the checkpoint."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DitError(
            f"{target}: this checkpoint could not be written ({reason}); older ones are untouched, "
            "make room and go on with --resume"
        ) from error


def is_there(target: Path) -> bool:
    """Tell whether a whole checkpoint is there; one that is not whole is removed."""
    if not target.exists():
        return False
    try:
        verify(target)
    except DitError:
        shutil.rmtree(target)
        return False
    return True


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    """Write a file of tensors inside a folder that is not yet a checkpoint."""
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in tensors.items()}, path)


def describe_file(path: Path) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def finish(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    *,
    is_kept: bool,
    described: Mapping[str, dict[str, Any]] | None = None,
) -> None:
    """Write state and manifest beside the tensors of a checkpoint.

    Args:
        folder: that is not yet a checkpoint.
        step: of the checkpoint.
        state: everything else, as JSON.
        is_kept: whether `prune` never deletes it.
        described: files that `describe_file` was already asked about, by name.
    """
    # A plain write is enough inside a folder that becomes visible, and durable, as a whole.
    (folder / STATE).write_text(json.dumps(state, indent=1, allow_nan=False), encoding="utf-8")
    failpoint(f"checkpoint-{step}:state")
    known = described or {}
    files = {path.name: known.get(path.name) or describe_file(path) for path in sorted(folder.iterdir())}
    manifest = {"format_version": FORMAT_VERSION, "step": step, KEPT: is_kept, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    failpoint(f"checkpoint-{step}:manifest")


def verify(path: str | Path, share: Share = ALONE) -> None:
    """Check a checkpoint's folder against its manifest.

    Args:
        path: the folder.
        share: of the files whose bytes are read; presence and size are looked at of all.

    Raises:
        DitError: the manifest or a file that it lists is missing, or differs in size or SHA-256.
    """
    path = Path(path)
    manifest = read_json(path / MANIFEST)
    match = STEP_FOLDER.fullmatch(path.name)
    expected = {"format_version": FORMAT_VERSION, "step": int(match[1]) if match else None}
    found = {key: manifest.get(key) for key in expected} if isinstance(manifest, dict) else manifest
    if found != expected:
        raise DitError(f"{path / MANIFEST}: expected {expected}, found {found}")
    files = manifest.get("files")
    if not isinstance(files, dict) or STATE not in files:
        raise DitError(f"{path / MANIFEST}: expected a list of files with {STATE}")
    for number, (name, entry) in enumerate(files.items()):
        _verify_file(path, name, entry, is_read=number % share.num == share.rank)


def _verify_file(folder: Path, name: str, entry: Any, *, is_read: bool) -> None:
    path = folder / name
    if not PLAIN_NAME.fullmatch(name) or not isinstance(entry, dict):
        raise DitError(f"{folder / MANIFEST}: expected a file of the same folder, found {name!r}")
    if path.is_symlink() or not path.is_file():
        raise DitError(f"{path}: expected a file, found none")
    if path.stat().st_size != entry.get("bytes"):
        raise DitError(f"{path}: expected {entry.get('bytes')} bytes, found {path.stat().st_size}")
    if is_read and (digest := sha256(path)) != entry.get("sha256"):
        raise DitError(f"{path}: expected SHA-256 {entry.get('sha256')}, found {digest}")


def load_newest(root: str | Path, check: Callable[[Path], None] = verify) -> Checkpoint | None:
    """Return the newest checkpoint that verifies, or None where there is no checkpoint at all.

    Args:
        root: the folder that holds the checkpoints.
        check: raises a DitError of one that does not verify.

    Raises:
        DitError: there are checkpoints, and none of them verifies: the run is never begun anew in silence.
    """
    passed_over = []
    for path, _ in _newest_first(root):
        try:
            return replace(load(path, check), passed_over=tuple(passed_over))
        except DitError as error:
            passed_over.append(str(error))
    if passed_over:
        raise DitError(f"{root}: expected at least one whole checkpoint, found none: {'; '.join(passed_over)}")
    return None


def load(path: str | Path, check: Callable[[Path], None] = verify) -> Checkpoint:
    """Return one checkpoint.

    Args:
        path: its folder.
        check: raises a DitError of one that does not verify.

    Raises:
        DitError: it does not verify.
    """
    path = Path(path)
    check(path)
    state = read_json(path / STATE)
    return Checkpoint(path, int(path.name.removeprefix("step-")), state)


def is_any_in(root: str | Path) -> bool:
    """Tell whether a folder holds a checkpoint, whole or not."""
    return bool(steps_in(root))


def steps_in(root: str | Path) -> list[int]:
    """Return the steps of the checkpoints of a folder, whole or not, the newest first."""
    return [step for _, step in _newest_first(root)]


def load_all(root: str | Path) -> list[Checkpoint]:
    """Return every checkpoint below a folder, the oldest first, for callers that need all of them.

    Raises:
        DitError: one of them does not verify.
    """
    return [load(path) for path, _ in sorted(_newest_first(root), key=lambda item: item[1])]


def prune(root: str | Path, keep: int) -> None:
    """Delete all but the `keep` newest checkpoints and those to be kept; links and other names are left alone."""
    for path, step in list(_newest_first(root))[keep:]:
        if not _is_kept(path):
            failpoint(f"checkpoint-{step}:prune")
            _delete(path)


def keep_only(root: str | Path, step: int) -> None:
    """Delete all checkpoints but that of one step."""
    for path, other in _newest_first(root):
        if other != step:
            _delete(path)


def _delete(path: Path) -> None:
    # A folder that is being deleted must not look like a broken checkpoint, so it leaves under another name.
    leaving = path.with_name(f"{TEMPORARY_PREFIX}pruned-{path.name}")
    path.rename(leaving)
    shutil.rmtree(leaving)


def _is_kept(path: Path) -> bool:
    """Tell whether a checkpoint is never deleted; one whose manifest can't be read is of no use."""
    try:
        manifest = read_json(path / MANIFEST)
    except DitError:
        return False
    return isinstance(manifest, dict) and manifest.get(KEPT) is True


def clean(root: str | Path) -> None:
    """Remove what a killed process left half written or half deleted; only for the one process that owns the run."""
    root = Path(root)
    for path in root.glob(f"{TEMPORARY_PREFIX}*") if root.is_dir() else ():
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path)


def _newest_first(root: str | Path) -> Iterator[tuple[Path, int]]:
    root = Path(root)
    found = []
    for path in root.iterdir() if root.is_dir() else ():
        match = STEP_FOLDER.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink():
            found.append((path, int(match[1])))
    return iter(sorted(found, key=lambda item: item[1], reverse=True))
