"""The one strict comparison of tensors by name and shape. Free of torch."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dit.errors import DitError


class Shaped(Protocol):
    """A tensor, or what a file's header says of one."""

    @property
    def shape(self) -> Sequence[int]:
        """Its sizes."""
        ...


def check_tensors(where: str | Path, expected: Mapping[str, Shaped], found: Mapping[str, Shaped]) -> None:
    """Refuse tensors of other names or shapes than expected.

    Args:
        where: what a message calls the place they were found in.
        expected: by name.
        found: by name.

    Raises:
        DitError: one line with the first of all that are missing, unexpected or of another shape, with both shapes.
    """
    wrong = [
        f"{name} (expected {list(tensor.shape)}, found {list(found[name].shape)})"
        for name, tensor in expected.items()
        if name in found and list(found[name].shape) != list(tensor.shape)
    ]
    faults = {
        "are missing": [name for name in expected if name not in found],
        "are unexpected": [name for name in found if name not in expected],
        "have another shape": wrong,
    }
    if lines := [f"{len(names)} tensors {fault}: {listed(names)}" for fault, names in faults.items() if names]:
        raise DitError(f"{where}: {'; '.join(lines)}")


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Join names for a message, leaving out all but the first `limit`."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
