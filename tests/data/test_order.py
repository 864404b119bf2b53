import numpy as np
import pytest

from dit.data.order import Window, check_batch_size, positions_to_indices
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


# --- a window of parts ------------------------------------------------------------------------------------------------

SIZES = (7, 40, 1, 0, 25, 33, 40, 40, 12, 40, 40, 39)
WINDOWS = [1, 2, 4, len(SIZES), 100]


def in_window(positions, num_open, seed=5):
    return positions_to_indices(positions, sum(SIZES), seed=seed, window=Window(SIZES, num_open))


@pytest.mark.parametrize("num_open", WINDOWS)
def test_a_window_too_uses_every_sample_once_an_epoch(num_open):
    epochs = in_window(np.arange(3 * sum(SIZES)), num_open).reshape(3, -1)
    assert all(sorted(row) == list(range(sum(SIZES))) for row in epochs)
    assert len({tuple(row) for row in epochs}) == 3
    assert (in_window(np.arange(sum(SIZES)), num_open, seed=6) != epochs[0]).any()


@pytest.mark.parametrize("num_open", WINDOWS)
def test_a_window_is_a_pure_function_of_seed_and_position(num_open):
    expected = in_window(np.arange(700), num_open)
    positions = np.random.default_rng(0).permutation(700)
    np.testing.assert_array_equal(in_window(positions, num_open), expected[positions])


@pytest.mark.parametrize("num_open", WINDOWS)
def test_no_more_parts_than_the_window_has_are_in_use(num_open):
    """Around the circle of an epoch every part is in use from its first to its last sample."""
    part_of = np.repeat(np.arange(len(SIZES)), SIZES)
    parts = part_of[in_window(np.arange(sum(SIZES)), num_open)]
    num_used = np.zeros(len(parts), dtype=int)
    for part in np.unique(parts):
        where = np.flatnonzero(parts == part)
        gaps = np.diff(np.append(where, where[0] + len(parts)))  # the longest one is where the part is closed
        last = where[gaps.argmax()]
        span = len(parts) - gaps.max() + 1
        num_used[(last - np.arange(span)) % len(parts)] += 1
    assert 1 <= num_used.max() <= num_open


def test_samples_travel_as_far_as_the_window_reaches():
    """A sample's place in its epoch, beyond the first of its part: uniform in 0..W parts, so W/2 parts on average."""
    size, num_parts, num_open = 50, 400, 20
    window = Window((size,) * num_parts, num_open)
    order = positions_to_indices(np.arange(size * num_parts), size * num_parts, seed=0, window=window)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    places = place.reshape(num_parts, size)
    spread = places.max(1) - places.min(1)
    spread = spread[spread < len(order) / 2]  # without the parts that lie over the end
    assert len(spread) >= num_parts - num_open
    # The extremes of 50 uniform numbers are 49/51 apart on average, sd 0.0272; their mean over 380 parts: 0.0014.
    assert abs(spread.mean() / (num_open * size) - 49 / 51) < 0.01
    steps = np.diff(order // size)
    # The next sample is of the same part with 1/W.
    assert abs((steps == 0).mean() - 1 / num_open) < 0.01
    full = positions_to_indices(np.arange(size * num_parts), size * num_parts, seed=0)
    assert abs(np.corrcoef(full, np.arange(len(full)))[0, 1]) < 0.03
