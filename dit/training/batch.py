"""From sample positions to a training batch, the same whatever the batch split or the number of processes.

Optimizer step s of global batch size B uses the positions s B .. (s + 1) B - 1. Which sample a position uses, its
flip, latent draw, label drop, noise and time depend on the seed and the position alone.

B samples of a batch or a part of it, C x H x W latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dit.data.order import positions_to_flips, positions_to_indices
from dit.diffusion.process import drop_labels
from dit.rng import Purpose, normal, uniform

if TYPE_CHECKING:
    from dit.latents.codec import Codec
    from dit.latents.dataset import LatentDataset


@dataclass(frozen=True)
class Batch:
    """What one call of the process needs, and where it came from."""

    positions: Sequence[int]
    """(B,) global sample positions."""
    indices: np.ndarray
    """(B,) samples of the data set."""
    x_0: Tensor
    """(B, C, H, W) normalised latents."""
    y: Tensor
    """(B,) int64 labels, dropped ones replaced by the null class."""
    noise: Tensor
    """(B, C, H, W) standard normal."""
    u: Tensor
    """(B,) float64 uniform on the CPU, of which the process makes times."""


def positions_of(
    step: int, batch_size: int, *, rank: int = 0, num_processes: int = 1, micro: int = 0, num_micros: int = 1
) -> range:
    """Return the positions of one micro-batch of one process: contiguous within the process, then within the step.

    Args:
        step: optimizer step, from 0.
        batch_size: global batch size, divisible by num_processes * num_micros.
        rank: this process.
        num_processes: all processes.
        micro: this micro-batch.
        num_micros: micro-batches per step.
    """
    size = batch_size // (num_processes * num_micros)
    start = step * batch_size + (rank * num_micros + micro) * size
    return range(start, start + size)


@dataclass(frozen=True)
class BatchSource:
    """Draws training batches."""

    dataset: "LatentDataset"
    """Cached moments and labels of the training split."""
    codec: "Codec"
    """Draws and normalises latents."""
    num_classes: int
    """K; the null class is K, and with K = 0 every label is it."""
    drop_probability: float
    """Share of labels that the null class replaces."""
    flip: bool
    """Whether half of the samples are mirrored."""
    seed: int
    """The run's seed."""
    device: torch.device
    """Where the batch is needed."""

    def draw(self, positions: Sequence[int]) -> Batch:
        """Return the batch of these positions."""
        indices = positions_to_indices(positions, len(self.dataset), seed=self.seed)
        flips = positions_to_flips(positions, seed=self.seed) if self.flip else np.zeros(len(positions), dtype=bool)
        moments, labels = self.dataset.get(indices, flips)
        shape = self.dataset.latents_shape
        draw = self._to_device(normal(self.seed, Purpose.LATENT_DRAW, positions, shape))
        noise = self._to_device(normal(self.seed, Purpose.TRAIN_NOISE, positions, shape))
        return Batch(
            positions=positions,
            indices=indices,
            x_0=self.codec.latents_from_moments(self._to_device(moments), draw),
            y=self._to_device(self._drop(labels, positions)),
            noise=noise,
            u=uniform(self.seed, Purpose.TIMESTEP, positions),
        )

    def _drop(self, labels: Tensor, positions: Sequence[int]) -> Tensor:
        if self.num_classes == 0:
            return torch.zeros_like(labels)
        if self.drop_probability == 0:
            return labels
        u = uniform(self.seed, Purpose.LABEL_DROP, positions)
        return drop_labels(labels, self.num_classes, probability=self.drop_probability, u=u)

    def _to_device(self, values: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)
