"""LightningDiT's shards: `*.safetensors` with draws `latents` and `latents_flip` (n, C, h, w) and `labels` (n,).

`latents_stats.pt` beside them holds mean and std of each channel, (1, C, 1, 1); it is read as tensors alone.

Source: hustvl/LightningDiT, extract_features.py and datasets/img_latent_dataset.py.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dit.data.sources import fingerprint_files
from dit.errors import DitError
from dit.latents.peers.peer import Peer, make_peer
from dit.pickle_file import load_pickle

STATISTICS_NAME = "latents_stats.pt"


@dataclass(frozen=True)
class ShardPart:
    """A shard, mapped into memory."""

    path: Path
    """The file."""
    latents: Tensor
    """(n, C, h, w)."""
    flipped: Tensor | None
    """(n, C, h, w) of the mirrored images."""
    labels: np.ndarray
    """(n,) int64."""

    def read(self, values: np.ndarray, row: int, view: int) -> None:
        """Read the latent (C, h, w) of a row in a view into its bytes, in float32."""
        latents = self.flipped if view else self.latents
        assert latents is not None, "a data set asks for no view that its index does not have"
        values.view(np.float32)[:] = latents[row].float().flatten().numpy()


def is_lightningdit(path: Path) -> bool:
    """Tell whether a folder is one, by the tensors of its first shard."""
    first = min(path.glob("*.safetensors"), default=None) if path.is_dir() else None
    if first is None:
        return False
    try:
        with safe_open(first, framework="pt") as file:
            return {"latents", "labels"} <= set(file.keys())
    except (OSError, SafetensorError):
        return False


def open_lightningdit(path: Path) -> Peer:
    """Open a folder of shards.

    Raises:
        DitError: a shard is damaged, or differs from the others; it is named.
    """
    files = sorted(path.glob("*.safetensors"))
    parts = {file.name: _open(file) for file in files}
    first = parts[files[0].name]
    for part in parts.values():
        expected = (first.latents.shape[1:], first.flipped is not None)
        found = (part.latents.shape[1:], part.flipped is not None)
        if expected != found:
            raise DitError(
                f"{part.path}: expected latents {tuple(expected[0])} with mirrored images {expected[1]}, as in "
                f"{files[0].name}, found {tuple(found[0])}, {found[1]}"
            )
    num_channels, height, width = first.latents.shape[1:]
    statistics = path / STATISTICS_NAME
    return make_peer(
        path,
        parts,
        fingerprint=fingerprint_files(files, path),
        latents_shape=(num_channels, height, width),
        num_moments=num_channels,
        has_flips=first.flipped is not None,
        statistics=_read_statistics(statistics, num_channels) if statistics.is_file() else None,
    )


def _open(path: Path) -> ShardPart:
    try:
        with safe_open(path, framework="pt") as file:
            names = ("latents", "latents_flip", "labels")
            found = {name: file.get_tensor(name) for name in names if name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DitError(f"{path}: expected a shard of latents, found {error}") from None
    latents, flipped, labels = (found.get(name) for name in names)
    if latents is None or labels is None or latents.ndim != 4 or not latents.is_floating_point():
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        raise DitError(f"{path}: expected latents (n, C, h, w) and labels (n,), found {shapes}")
    is_whole = labels.shape == latents.shape[:1] and not labels.is_floating_point()
    if not is_whole or (flipped is not None and flipped.shape != latents.shape):
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        raise DitError(f"{path}: expected a label and a mirrored latent for each of its latents, found {shapes}")
    return ShardPart(path, latents, flipped, labels.long().numpy())


def _read_statistics(path: Path, num_channels: int) -> tuple[Tensor, Tensor]:
    content = load_pickle(path)
    found = [content.get(name) if isinstance(content, dict) else None for name in ("mean", "std")]
    tensors = [value.double().flatten() for value in found if isinstance(value, Tensor)]
    if len(tensors) != 2 or {len(tensor) for tensor in tensors} != {num_channels}:
        raise DitError(f"{path}: expected mean and std of {num_channels} channels, found others")
    mean, std = tensors
    if not torch.cat(tensors).isfinite().all() or not (std > 0).all():
        raise DitError(f"{path}: expected finite means and positive deviations, found others")
    return mean, std
