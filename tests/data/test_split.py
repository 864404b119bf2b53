import numpy as np
import pytest

from dit.data.split import held_out, index_hash

MASK = 2**64 - 1


def splitmix64(value: int) -> int:
    """The published algorithm, in whole numbers."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def test_hash_is_splitmix64_of_index_and_seed():
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # first output of the reference implementation for the seed 0
    for seed in (0, 7, 2**63 - 1):
        expected = [splitmix64(index ^ splitmix64(seed)) for index in range(20)]
        assert index_hash(20, seed).tolist() == expected


def test_every_class_gives_its_share():
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    chosen = held_out(labels, 100, seed=0)
    assert len(set(chosen.tolist())) == 100
    assert np.bincount(labels[chosen]).tolist() == [50, 30, 20]


def test_shares_are_rounded_by_largest_remainder():
    labels = np.repeat([0, 1, 2], [6, 3, 1])
    # 5 * (6, 3, 1) / 10 = (3, 1.5, 0.5): one left over, the tie goes to the first class.
    assert np.bincount(labels[held_out(labels, 5, seed=0)], minlength=3).tolist() == [3, 2, 0]


@pytest.mark.parametrize("num", [0, 10])
def test_none_and_all(num):
    labels = np.arange(10) % 3
    assert sorted(held_out(labels, num, seed=1).tolist()) == list(range(num))


def test_a_prefix_is_a_fair_sample_and_seeds_differ():
    labels = np.repeat(np.arange(10), 500)
    chosen = held_out(labels, 1000, seed=0)
    assert np.bincount(labels[chosen[:200]], minlength=10).min() >= 8  # expected 20, standard deviation 4
    assert len(np.intersect1d(chosen, held_out(labels, 1000, seed=1))) < 400  # expected 200
