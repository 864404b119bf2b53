"""Which images are held out: a pure function of the seed, each image's index and its label.

Every index is hashed with the seed; in each class the images with the lowest hashes are held out, and the held-out
number is shared among the classes in proportion to their sizes. Nothing depends on a library's random generator, so
the split of a data set is the same for ever.

Source of the hash: splitmix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

import numpy as np

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def index_hash(num_items: int, seed: int) -> np.ndarray:
    """Hash each index of range(num_items) with the seed: (num_items,) uint64, evenly spread over all values."""
    mixed_seed = _splitmix64(np.array([seed], dtype=np.uint64))
    return _splitmix64(np.arange(num_items, dtype=np.uint64) ^ mixed_seed)


def held_out(labels: np.ndarray, num_held_out: int, *, seed: int) -> np.ndarray:
    """Choose the held-out images, in every class the same share of them.

    Args:
        labels: (N,) int64 class of each image.
        num_held_out: number of images to hold out, in 0..N.
        seed: seed of the split, at least 0.

    Returns:
        (num_held_out,) int64 indices, shuffled, so that any prefix of them is a fair sample.
    """
    hashes = index_hash(len(labels), seed)
    classes, counts = np.unique(labels, return_counts=True)
    chosen = [np.zeros(0, dtype=np.int64)]
    for label, share in zip(classes, _apportion(counts, num_held_out), strict=True):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(hashes[members], kind="stable")[:share]])
    indices = np.concatenate(chosen)
    return indices[np.argsort(hashes[indices], kind="stable")]


def _apportion(counts: np.ndarray, total: int) -> np.ndarray:
    """Share `total` in proportion to `counts`, rounding by largest remainder (ties: the first class)."""
    if total == 0:
        return np.zeros_like(counts)
    shares, remainders = np.divmod(counts * total, counts.sum())
    largest_first = np.argsort(-remainders, kind="stable")
    shares[largest_first[: total - shares.sum()]] += 1
    return shares


def _splitmix64(value: np.ndarray) -> np.ndarray:
    value = value + _GOLDEN_GAMMA  # uint64 arrays wrap around, as the algorithm wants
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
