import numpy as np
import pytest

from dit.data.order import check_batch_size, positions_to_indices
from dit.errors import ConfigError
from dit.rng import Purpose, permutation


def test_epochs_are_permutations_of_their_own():
    indices = positions_to_indices(np.arange(30), 10, seed=3).reshape(3, 10)
    for epoch, row in enumerate(indices):
        assert row.tolist() == permutation(3, Purpose.ORDER, 10, epoch=epoch).tolist()
        assert sorted(row) == list(range(10))
    assert len({tuple(row) for row in indices}) == 3


def test_order_is_a_pure_function_of_seed_and_position():
    positions = np.random.default_rng(0).permutation(100)
    expected = positions_to_indices(np.arange(100), 7, seed=1)
    np.testing.assert_array_equal(positions_to_indices(positions, 7, seed=1), expected[positions])
    for start in range(0, 100, 9):  # batches that span the ends of epochs
        np.testing.assert_array_equal(
            positions_to_indices(range(start, min(100, start + 9)), 7, seed=1), expected[start : start + 9]
        )
    assert (positions_to_indices(np.arange(100), 7, seed=2) != expected).any()


def test_too_few_images_are_refused():
    """D7."""
    with pytest.raises(ConfigError, match="at least 1 image"):
        positions_to_indices([0], 0, seed=0)
    check_batch_size(64, 64)
    with pytest.raises(ConfigError, match="at most the number of training images, 63, found 64"):
        check_batch_size(63, 64)
