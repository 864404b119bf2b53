"""Training batches, the same whatever the batch split or the number of processes.

Optimizer step s of global batch size B uses the positions s B .. (s + 1) B - 1. Which sample a position uses depends on
the seed and the position; its flip, latent draw, label drop, noise and time on the seed, the step and the row of the
global batch (`StepDraws`). So the samples of later steps are known, and are read while the network computes.

B samples of a batch or a part of it, C x H x W latents.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from dit.data.order import Window, positions_to_indices
from dit.data.request import Request
from dit.device import to_device
from dit.diffusion.process import drop_labels
from dit.latents.read_ahead import Rows
from dit.rng import Purpose, StepDraws
from dit.training.stopwatch import Stopwatch

if TYPE_CHECKING:
    from dit.latents.codec import Codec


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
    """(B,) float64 uniform on the CPU, of which the process makes times; (B, n) where its loss takes n numbers."""
    draws: StepDraws
    """What else is drawn for these rows."""
    images: Tensor | None = None
    """(B, channels, H, W) uint8 images, where the data set gives them."""
    features: Tensor | None = None
    """(B, D, h, w) cached features of a frozen encoder, in the type of storage, where the data set gives them."""


@dataclass(frozen=True)
class Share:
    """How the rows of every step's global batch are shared out: contiguous by process, then by micro-batch."""

    batch_size: int
    """Rows of the global batch, divisible by num_processes * num_micros."""
    rank: int = 0
    """This process."""
    num_processes: int = 1
    """All processes."""
    num_micros: int = 1
    """Micro-batches per step in each process."""

    def rows(self, micro: int) -> range:
        """Return the rows of one micro-batch of this process."""
        size = self.batch_size // (self.num_processes * self.num_micros)
        start = (self.rank * self.num_micros + micro) * size
        return range(start, start + size)


class TrainingSet(Protocol):
    """What a data set offers to training."""

    class_names: tuple[str, ...]
    """Name of each class; empty for a data set without labels."""
    num_classes: int
    """0 without labels."""
    latents_shape: tuple[int, int, int]
    """C, H, W."""
    fingerprint: str
    """Hash of everything that moments and labels depend on."""

    def __len__(self) -> int: ...

    @property
    def part_sizes(self) -> np.ndarray:
        """(P,) number of samples in each part, which `data.shuffle: shards` mixes."""
        ...

    def read(self, requests: Iterator[Request], *, pin_memory: bool) -> Generator[Rows]:
        """Answer requests in order, reading ahead until the generator is closed."""
        ...


@dataclass
class BatchSource:
    """Makes training batches."""

    dataset: TrainingSet
    """Moments and labels of the training split."""
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
    share: Share
    """Which rows are this process's."""
    window: Window | None = None
    """How far samples are shuffled; None: over the whole data set."""
    crop: Literal["centre", "random"] = "centre"
    """Where images are cut out."""
    num_uniforms: int = 1
    """Uniform numbers that the loss of a sample takes."""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    """Counts the waits for the data set as `data`."""
    _reading: Generator[Rows] | None = None
    _next: int = 0
    """Number of the micro-batch that the reader comes to next, counted from the first of step 0."""

    def batch(self, step: int, micro: int) -> Batch:
        """Return a micro-batch of a step, both from 0; what is asked for in order is read ahead.

        Raises:
            DitError: the data set can't be read, or holds values that are not finite.
        """
        with self.stopwatch.pause("data"):
            rows = self._read(step * self.share.num_micros + micro)
        return self.make(step, micro, rows)

    def close(self) -> None:
        """End the reading ahead."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def make(self, step: int, micro: int, rows: Rows) -> Batch:
        """Return a micro-batch of the rows that were read for it."""
        draws, shape = self._draws(step, micro), self.dataset.latents_shape
        draw = draws.normal(Purpose.LATENT_DRAW, shape, self.device) if self.codec.is_gaussian else None
        moments = to_device(rows.moments, self.device).float()
        return Batch(
            positions=self._positions(draws),
            indices=rows.request.indices,
            x_0=self.codec.latents_from_moments(moments, draw),
            y=to_device(self._drop(rows.labels, draws), self.device),
            noise=draws.normal(Purpose.TRAIN_NOISE, shape, self.device),
            u=self._uniforms(draws),
            draws=draws,
            images=rows.images,
            features=None if rows.features is None else to_device(rows.features, self.device),
        )

    def request(self, step: int, micro: int) -> Request:
        """Return which samples a micro-batch uses."""
        draws = self._draws(step, micro)
        positions, num_samples = self._positions(draws), len(self.dataset)
        indices = positions_to_indices(positions, num_samples, seed=self.seed, window=self.window)
        flips = draws.uniform(Purpose.FLIP).numpy() < 0.5 if self.flip else np.zeros(len(positions), dtype=bool)
        places = draws.uniform(Purpose.CROP).numpy() if self.crop == "random" else None
        return Request(indices, flips, places)

    def _read(self, number: int) -> Rows:
        if self._reading is None or number != self._next:
            self.close()
            requests = (self.request(*divmod(other, self.share.num_micros)) for other in count(number))
            self._reading = self.dataset.read(requests, pin_memory=self.device.type == "cuda")
        self._next = number + 1
        return next(self._reading)

    def _draws(self, step: int, micro: int) -> StepDraws:
        return StepDraws(self.seed, step, self.share.batch_size, self.share.rows(micro))

    def _positions(self, draws: StepDraws) -> range:
        start = draws.step * draws.batch_size
        return range(start + draws.rows.start, start + draws.rows.stop)

    def _uniforms(self, draws: StepDraws) -> Tensor:
        u = draws.uniform(Purpose.TIMESTEP)
        if self.num_uniforms == 1:
            return u
        return torch.cat([u[:, None], draws.uniform(Purpose.LOSS, self.num_uniforms - 1)], dim=1)

    def _drop(self, labels: Tensor, draws: StepDraws) -> Tensor:
        if self.num_classes == 0:
            return torch.zeros_like(labels)
        if self.drop_probability == 0:
            return labels
        u = draws.uniform(Purpose.LABEL_DROP)
        return drop_labels(labels, self.num_classes, probability=self.drop_probability, u=u)
