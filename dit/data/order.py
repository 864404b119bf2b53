"""Which sample is used at which step, as a pure function of (seed, global sample position).

Training uses sample positions 0, 1, 2, ...: step k of global batch size B uses positions k B .. (k + 1) B - 1,
whatever the number of processes and however the batch is split. Positions run through one permutation of the data
set after another (epoch = position // N), so every sample is used once before any is used again, and there is no
state of a loader to save.

The permutation is one of all samples, or one for disks and networks that are slow at jumping about: the parts of the
data set are put in a random order around a circle, part p at r_p of 0..P-1, each of its samples moves on by W u, u
uniform in [0, 1), and the samples follow in the order of r_p + W u mod P. So W parts are in use at a time, evenly
mixed, and one of them is exchanged for the next now and then.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from dit.errors import ConfigError
from dit.rng import Purpose, generator, permutation


@dataclass(frozen=True)
class Window:
    """Parts of a data set, of which a few at a time are in use."""

    part_sizes: tuple[int, ...]
    """(P,) number of samples in each part, in the order of the samples."""
    num_open: int
    """W, the parts that are mixed."""


def positions_to_indices(
    positions: ArrayLike, num_samples: int, *, seed: int, window: Window | None = None
) -> np.ndarray:
    """Return which sample each global position uses.

    Args:
        positions: (B,) whole numbers from 0, in any order.
        num_samples: size N of the data set.
        seed: the run's seed.
        window: how far samples are shuffled; None: over the whole data set.

    Returns:
        (B,) int64 indices in 0..N-1.

    Raises:
        ConfigError: the data set is empty.
    """
    if num_samples < 1:
        raise ConfigError("data.source: expected at least 1 image, found none; check the folder or the split")
    epochs, offsets = np.divmod(np.asarray(positions, dtype=np.int64), num_samples)
    indices = np.empty_like(offsets)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = _order_of_epoch(num_samples, seed, int(epoch), window)[offsets[here]]
    return indices


def check_batch_size(num_samples: int, batch_size: int) -> None:
    """Refuse a data set smaller than one batch: a step would use the same image twice.

    Raises:
        ConfigError: with both numbers.
    """
    if num_samples < batch_size:
        raise ConfigError(
            f"train.batch_size: expected at most the number of training images, {num_samples}, found {batch_size}; "
            "lower train.batch_size or add images"
        )


@lru_cache(maxsize=2)  # a batch can span the end of one epoch and the start of the next
def _order_of_epoch(num_samples: int, seed: int, epoch: int, window: Window | None) -> np.ndarray:
    if window is None:
        order = permutation(seed, Purpose.ORDER, num_samples, epoch=epoch)
    else:
        assert sum(window.part_sizes) == num_samples
        order = _order_in_window(window, generator(seed, Purpose.ORDER, epoch, step=1))
    order.flags.writeable = False
    return order


def _order_in_window(window: Window, random: np.random.Generator) -> np.ndarray:
    num_parts = len(window.part_sizes)
    places = random.permutation(num_parts).astype(np.int32)
    keys = random.random(sum(window.part_sizes))  # float64, in place from here on: there may be millions
    keys *= min(window.num_open, num_parts)
    keys += np.repeat(places, window.part_sizes)
    keys %= num_parts
    return np.argsort(keys, kind="stable")  # equal keys come in one order on every machine
