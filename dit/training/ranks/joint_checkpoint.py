"""Checkpoints that all processes of a run write and verify together.

Where weights are dealt to the processes, each tensor is gathered, and kept, whole, by the process that has the fewest
bytes so far; each writes and hashes a file of its own of every name, at the same time as the others. The main process
writes state and manifest and gives the folder its name, once all have told that theirs is written. Any number of
processes reads such a checkpoint, whether weights are dealt to them or not.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from dit import checkpoint
from dit.checkpoint import Checkpoint
from dit.errors import DitError
from dit.failpoints import failpoint
from dit.files import new_folder, write_json
from dit.launcher import Share
from dit.training.ranks.processes import Processes
from dit.training.ranks.sharding import whole_of

Tensors = Mapping[str, Mapping[str, Tensor]]
"""Name of a file without suffix -> tensors by name."""


def load_newest(processes: Processes, root: Path) -> Checkpoint | None:
    """Return the newest checkpoint that verifies, the same in every process; each reads a share of the bytes.

    Raises:
        DitError: there are checkpoints and none of them verifies.
        ConfigError: the processes see different checkpoints.
    """
    processes.check_agreement({f"{root}: checkpoints": checkpoint.steps_in(root)})
    return checkpoint.load_newest(root, lambda path: _verify(processes, path))


def _verify(processes: Processes, path: Path) -> None:
    problem = None
    try:
        checkpoint.verify(path, Share(processes.rank, processes.count))
    except DitError as error:
        problem = str(error)
    _raise_first(processes.tell_all(problem))


def save(
    processes: Processes, root: Path, step: int, tensors: Tensors, state: Mapping[str, Any], *, is_kept: bool = False
) -> None:
    """Write one checkpoint, whole or not at all: `dit.checkpoint.save` for all processes.

    Raises:
        DitError: it could not be written; older checkpoints are untouched.
    """
    if processes.mesh is None:
        processes.on_main(lambda: checkpoint.save(root, step, tensors, state, is_kept=is_kept))
        return
    target = checkpoint.folder_of(root, step)
    with ExitStack() as stack:  # in the main process it holds the new folder, which vanishes with an error
        folder = processes.decide(lambda: _begin(target, stack))
        if folder is None:
            return
        described, problem = _write_share(processes, folder, step, tensors)
        everyone = processes.tell_all((described, problem))
        _raise_first(problem for _, problem in everyone)
        files = {name: entry for described, _ in everyone for name, entry in described.items()}
        processes.on_main(lambda: _finish(target, folder, step, state, files, stack, is_kept=is_kept))
    failpoint(f"checkpoint-{step}:renamed")


def _begin(target: Path, stack: ExitStack) -> Path | None:
    """Return a new folder; None if a whole checkpoint is there."""
    with checkpoint.explained(target):
        return None if checkpoint.is_there(target) else stack.enter_context(new_folder(target))


def _finish(
    target: Path,
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    files: Mapping[str, dict[str, Any]],
    stack: ExitStack,
    *,
    is_kept: bool,
) -> None:
    with checkpoint.explained(target):
        checkpoint.finish(folder, step, state, is_kept=is_kept, described=files)
        stack.close()


def _write_share(
    processes: Processes, folder: Path, step: int, tensors: Tensors
) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Write this process's tensors.

    Returns:
        What the manifest says of its files, and what went wrong, which must not keep the others waiting.
    """
    described, problem = {}, None
    loads = [0] * processes.count
    for name, values in tensors.items():
        owners = {key: _deal(value, loads) for key, value in values.items()}
        own = {}
        for key, value in values.items():
            gathered = whole_of(value)
            if owners[key] == processes.rank:
                own[key] = gathered.cpu()
        try:
            with checkpoint.explained(folder):
                paths = _write(folder, name, own, owners, Share(processes.rank, processes.count))
                described |= {path.name: checkpoint.describe_file(path) for path in paths}
                failpoint(f"checkpoint-{step}:{name}")
                failpoint(f"checkpoint-{step}:{name}-rank-{processes.rank}")
        except DitError as error:
            problem = str(error)
    return described, problem


def _deal(tensor: Tensor, loads: list[int]) -> int:
    """Return the process that writes a tensor: the one with the least bytes, which are counted."""
    owner = loads.index(min(loads))
    loads[owner] += tensor.numel() * tensor.element_size()
    return owner


def _write(
    folder: Path, name: str, own: Mapping[str, Tensor], owners: Mapping[str, int], share: Share
) -> Iterable[Path]:
    """Write a process's tensors of a name, and in the main process the index; return the files."""
    places = {rank: f"{name}-{rank + 1:05}-of-{share.num:05}.safetensors" for rank in range(share.num)}
    if share.rank == 0:
        index = checkpoint.index_of(folder, name)
        write_json(index, {"metadata": {}, "weight_map": {key: places[rank] for key, rank in owners.items()}})
        yield index
    if own:
        path = folder / places[share.rank]
        checkpoint.write_tensors(path, own)
        yield path


def _raise_first(problems: Iterable[str | None]) -> None:
    if found := next((problem for problem in problems if problem is not None), None):
        raise DitError(found)
