"""What the readers of autoencoders' files share: files of either kind, told by their first bytes, and statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from dit.errors import DitError
from dit.files import write_json
from dit.latents.autoencoder import CONFIG_NAME, WEIGHTS_NAME
from dit.pickle_file import load_pickle
from dit.zoo.folder.safetensors_file import read_header
from dit.zoo.folder.weights import save_tensors


@dataclass
class ForeignAutoencoder:
    """An autoencoder in memory, by diffusers' names."""

    config: dict[str, Any]
    """Its config.json."""
    tensors: dict[str, Tensor]
    """Its weights."""
    notices: list[str] = field(default_factory=list)
    """What was decided or left out on the way, one line each."""

    def write(self, folder: Path) -> None:
        """Write it into an existing empty folder."""
        write_json(folder / CONFIG_NAME, self.config)
        save_tensors(self.tensors, folder / WEIGHTS_NAME)


def read_content(path: Path) -> dict[Any, Any]:
    """Read a safetensors file, or what torch.save wrote; where that is no dictionary, an empty one.

    Raises:
        DitError: there is no such file, it is damaged, or could run code.
    """
    if not path.is_file():
        raise DitError(f"{path}: expected a file, found {'a folder' if path.is_dir() else 'nothing there'}")
    with open(path, "rb") as file:
        start = file.read(9)
    if start[8:9] == b"{" or path.suffix == ".safetensors":  # a pickle under that name is refused
        read_header(path)
        return load_file(path)
    content = load_pickle(path)
    return content if isinstance(content, dict) else {}


def state_in(content: Mapping[Any, Any], key: str) -> dict[str, Tensor] | None:
    """Return the state dict under a key, or the whole where it has no such key; None if neither is one."""
    found = content.get(key, content)
    is_state = isinstance(found, dict) and all(isinstance(value, Tensor) for value in found.values())
    return found if is_state else None


def pair_in(content: Any, first: str, second: str) -> tuple[Tensor, Tensor] | None:
    """Return two tensors of a dictionary in float64; None where it is none or lacks one."""
    one, other = (content.get(name) if isinstance(content, dict) else None for name in (first, second))
    return (one.double(), other.double()) if isinstance(one, Tensor) and isinstance(other, Tensor) else None


def check_statistics(where: str | Path, mean: Tensor, std: Tensor, *, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of latents in a shape, float64.

    Raises:
        DitError: they have another number of entries, are not finite, or a deviation is not positive.
    """
    if mean.numel() != prod(shape) or std.numel() != prod(shape):
        raise DitError(f"{where}: expected statistics of {list(shape)}, found {list(mean.shape)} and {list(std.shape)}")
    mean, std = mean.double().reshape(*shape), std.double().reshape(*shape)
    if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
        raise DitError(f"{where}: expected finite statistics and positive deviations, found others")
    return mean, std
