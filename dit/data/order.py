"""Which sample is used at which step, as a pure function of (seed, global sample position).

Training uses sample positions 0, 1, 2, ...: step k of global batch size B uses positions k B .. (k + 1) B - 1,
whatever the number of processes and however the batch is split. Positions run through one permutation of the data
set after another (epoch = position // N), so every sample is used once before any is used again, and there is no
state of a loader to save.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from dit.errors import ConfigError
from dit.rng import Purpose, permutation


def positions_to_indices(positions: ArrayLike, num_samples: int, *, seed: int) -> np.ndarray:
    """Return which sample each global position uses.

    Args:
        positions: (B,) whole numbers from 0, in any order.
        num_samples: size N of the data set.
        seed: the run's seed.

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
        indices[here] = _order_of_epoch(num_samples, seed, int(epoch))[offsets[here]]
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
def _order_of_epoch(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    order = permutation(seed, Purpose.ORDER, num_samples, epoch=epoch)
    order.flags.writeable = False
    return order
