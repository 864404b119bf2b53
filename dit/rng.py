"""Random numbers as pure functions of a seed, a purpose and a place: there is no state to save.

By position, for sampling, validation and the order of the data: a number comes from numpy's Philox generator with the
key (seed, purpose) and the counter (0, step, position, 0). It does not depend on the batch that a sample is in.

By block, for what training draws: a block is 32 consecutive rows of a step's global batch, and is drawn at once by a
torch generator seeded from (seed, purpose, step, block). A process draws the blocks that its rows touch and cuts its
rows out, so that nothing depends on the number of processes or micro-batches. Noise is drawn on the network's device,
and differs between kinds of device. Numbers that the host needs, one a row, are drawn on the CPU: they are the same
everywhere.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

BLOCK = 32
"""Rows of the global batch that training draws at once."""
TRAINING_LAW = f"blocks of {BLOCK} rows"
"""Name of the law by which training draws; a run is not continued by another one."""


class Purpose(IntEnum):
    """What a number is drawn for: no two purposes share a stream. Runs depend on the values, so never renumber."""

    ORDER = 0
    FLIP = 1
    LATENT_DRAW = 2
    TIMESTEP = 3
    LABEL_DROP = 4
    TRAIN_NOISE = 5
    START_NOISE = 6
    STEP_NOISE = 7
    CLASS = 8
    PROBE = 9
    INIT = 10
    MASK = 11
    MASK_RATIO = 12
    MASKED_NOISE = 13
    TEACHER_TIME = 14
    NEGATIVE = 15
    LOSS = 16
    CROP = 17
    ROUTE = 18


def generator(seed: int, purpose: Purpose, position: int = 0, step: int = 0) -> np.random.Generator:
    """Return the generator of one sample position (and step within it); all arguments are in [0, 2**64)."""
    # The lowest counter word is the one that advances while numbers are drawn.
    return np.random.Generator(np.random.Philox(key=[seed, int(purpose)], counter=[0, step, position, 0]))


def normal(seed: int, purpose: Purpose, positions: Iterable[int], shape: Sequence[int], *, step: int = 0) -> Tensor:
    """Draw standard normal noise, one row per sample position.

    Args:
        seed: the run's or the user's seed, at least 0.
        purpose: what the noise is for.
        positions: B global sample positions.
        shape: shape of one sample, for example (C, H, W).
        step: the solver's step, where a sample needs noise more than once.

    Returns:
        (B, *shape) float32 on the CPU.
    """
    positions = list(positions)
    noise = np.empty((len(positions), *shape), dtype=np.float32)
    for row, position in zip(noise, positions, strict=True):
        generator(seed, purpose, int(position), step).standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(noise)


def uniform(seed: int, purpose: Purpose, positions: Iterable[int], *, step: int = 0) -> Tensor:
    """Draw one number in [0, 1) per sample position: (B,) float64 on the CPU."""
    draws = [generator(seed, purpose, int(position), step).random() for position in positions]
    return torch.tensor(draws, dtype=torch.float64)


def permutation(seed: int, purpose: Purpose, num_items: int, *, epoch: int = 0) -> np.ndarray:
    """Return a permutation of range(num_items) that depends on (seed, purpose, epoch) alone: (num_items,) int64."""
    return generator(seed, purpose, epoch).permutation(num_items)


@dataclass(frozen=True)
class StepDraws:
    """What training draws for B consecutive rows of the global batch of one step."""

    seed: int
    """The run's seed."""
    step: int
    """The step, from 0."""
    batch_size: int
    """Rows of the global batch."""
    rows: range
    """The B rows."""

    def normal(self, purpose: Purpose, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Draw standard normal noise for each row: (B, *shape) float32 on the device."""
        return self._draw(purpose, torch.empty(self._num_drawn, *shape, device=device), Tensor.normal_)

    def uniform(self, purpose: Purpose, *shape: int) -> Tensor:
        """Draw numbers in [0, 1) for each row, by default one: (B, *shape) float64 on the CPU."""
        return self._draw(purpose, torch.empty(self._num_drawn, *shape, dtype=torch.float64), Tensor.uniform_)

    @property
    def _first_block(self) -> int:
        return self.rows.start // BLOCK

    @property
    def _num_drawn(self) -> int:
        return (-(-self.rows.stop // BLOCK) - self._first_block) * BLOCK

    def _draw(self, purpose: Purpose, values: Tensor, fill: Callable[..., Tensor]) -> Tensor:
        """Fill `values`, which has the rows of whole blocks, and return those that are wanted."""
        generator = torch.Generator(values.device)
        first_of_step = self.step * -(-self.batch_size // BLOCK)
        for number, block in enumerate(values.split(BLOCK), first_of_step + self._first_block):
            fill(block, generator=generator.manual_seed(block_seed(self.seed, purpose, number)))
        skipped = self.rows.start - self._first_block * BLOCK
        return values[skipped : skipped + len(self.rows)]


def block_seed(seed: int, purpose: Purpose, number: int) -> int:
    """Return the seed of a run's block of this number, in [0, 2**64).

    A CPU's generator uses the low 32 bits alone. They differ for any two of 2**32 blocks, or 1.4e11 samples: they are a
    one-to-one mix of the block's number with a hash of seed and purpose.

    Source: the finaliser of MurmurHash3.
    """
    key = hashlib.blake2b(f"{seed} {int(purpose)}".encode(), digest_size=8).digest()
    high, low = divmod(number ^ int.from_bytes(key, "little"), 2**32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        low = (low ^ (low >> shift)) * factor % 2**32
    return (high << 32) + (low ^ (low >> 16))
