"""Random numbers as a pure function of (seed, purpose, sample position, step).

Every number that training or sampling draws for a sample comes from a Philox counter-based generator whose key is
(seed, purpose) and whose counter starts at (0, step, position, 0). So it does not depend on the batch that the sample
is in, on the order of the batches, on the number of processes, or on restarts, and there is no state to save.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


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
