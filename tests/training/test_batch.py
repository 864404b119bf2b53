"""Batches: which rows a micro-batch has, that a sample is the same in any split, and that they are read ahead."""

import threading

import numpy as np
import pytest
import torch

from dit.data.order import Window, positions_to_indices
from dit.rng import Purpose, StepDraws
from dit.training.batch import BatchSource, Share
from tests.training.fakes import FakeCodec, FakeLatents


def make_source(**changes):
    arguments = {
        "dataset": FakeLatents(),
        "codec": FakeCodec(),
        "num_classes": 3,
        "drop_probability": 0.1,
        "flip": True,
        "seed": 5,
        "device": torch.device("cpu"),
        "share": Share(48),
    }
    return BatchSource(**(arguments | changes))


@pytest.fixture
def batch_of():
    """Return a function that makes one batch of a source of its own."""
    sources = []

    def make(step=0, micro=0, **changes):
        sources.append(make_source(**changes))
        return sources[-1].batch(step, micro)

    yield make
    for source in sources:
        source.close()


@pytest.mark.parametrize(("num_processes", "num_micros"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 2)])
def test_a_step_is_cut_into_its_positions_in_order(batch_of, num_processes, num_micros):
    cut = [
        position
        for rank in range(num_processes)
        for micro in range(num_micros)
        for position in batch_of(3, micro, share=Share(16, rank, num_processes, num_micros)).positions
    ]
    assert cut == list(range(48, 64))


@pytest.mark.parametrize(("num_processes", "num_micros"), [(1, 4), (2, 1), (2, 3), (5, 1)])
def test_a_sample_does_not_depend_on_processes_and_micro_batches(batch_of, num_processes, num_micros):
    """Parts of 30, 60, 20 and 24 of 120 rows: they cut blocks of 32, and the last block is not whole."""
    dataset = FakeLatents(130)
    whole = batch_of(7, dataset=dataset, share=Share(120))
    parts = [
        batch_of(7, micro, dataset=dataset, share=Share(120, rank, num_processes, num_micros))
        for rank in range(num_processes)
        for micro in range(num_micros)
    ]
    for name in ("x_0", "y", "noise", "u"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
    assert (np.concatenate([part.indices for part in parts]) == whole.indices).all()
    assert whole.indices.tolist() == positions_to_indices(range(840, 960), 130, seed=5).tolist()


def test_samples_come_in_the_order_of_a_window(batch_of):
    window = Window((10,) * 13, num_open=2)
    found = batch_of(2, dataset=FakeLatents(130), share=Share(40), window=window).indices.tolist()
    assert found == positions_to_indices(range(80, 120), 130, seed=5, window=window).tolist()
    assert found != positions_to_indices(range(80, 120), 130, seed=5).tolist()


def test_a_loss_that_takes_several_numbers_gets_columns_of_which_the_first_is_that_of_others(batch_of):
    dataset = FakeLatents(130)
    whole = batch_of(7, dataset=dataset, share=Share(120), num_uniforms=3)
    parts = [batch_of(7, micro, dataset=dataset, share=Share(120, 0, 1, 4), num_uniforms=3) for micro in range(4)]
    assert torch.equal(torch.cat([part.u for part in parts]), whole.u)
    alone = batch_of(7, dataset=dataset, share=Share(120))
    assert torch.equal(whole.u[:, 0], alone.u)
    assert torch.equal(whole.noise, alone.noise)
    assert whole.u.shape == (120, 3)
    assert torch.corrcoef(whole.u.T).fill_diagonal_(0).abs().max() < 4 / np.sqrt(120)


def test_every_step_draws_anew(batch_of):
    one, other = (batch_of(step, num_classes=0, flip=False) for step in (0, 1))
    assert sorted(one.indices) == sorted(other.indices)  # an epoch each
    assert not torch.isclose(one.noise, other.noise).any()
    assert not torch.isclose(one.u, other.u).any()


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5])
def test_labels_are_dropped_at_their_rate(batch_of, probability):
    options = {"dataset": FakeLatents(4800), "share": Share(4800), "drop_probability": probability}
    batch = batch_of(**options)
    dropped = batch.y == 3
    assert dropped.double().mean().item() == pytest.approx(probability, abs=4 * np.sqrt(0.25 / 4800))
    labels = torch.from_numpy(options["dataset"].labels[batch.indices])
    assert torch.equal(batch.y[~dropped], labels[~dropped])
    assert torch.equal(batch.y, batch_of(**options).y)


def test_half_of_the_samples_are_flipped_where_the_recipe_says_so(batch_of):
    dataset = FakeLatents(480)
    for flip, expected in ((True, 0.5), (False, 0.0)):
        batch = batch_of(dataset=dataset, share=Share(480), flip=flip)
        plain = dataset.get(batch.indices, np.zeros(480, dtype=bool))[0][:, :2]
        flipped = (batch.x_0 - plain.flip(-1)).abs().mean((1, 2, 3)) < (batch.x_0 - plain).abs().mean((1, 2, 3))
        assert flipped.double().mean().item() == pytest.approx(expected, abs=0.1)


def test_places_of_random_crops_are_drawn_for_the_rows_of_the_global_batch():
    """With a sequence of numbers of their own: neither those of the flips nor those of another step."""
    places = make_source(crop="random").request(3, 0).places
    assert places is not None
    assert ((places >= 0) & (places < 1)).all()
    parts = [make_source(crop="random", share=Share(48, 1, 2, 2)).request(3, micro).places for micro in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts), places[24:])
    assert not np.isin(places, make_source(crop="random").request(4, 0).places).any()
    assert not np.isin(places, StepDraws(5, 3, 48, range(48)).uniform(Purpose.FLIP).numpy()).any()
    assert make_source().request(3, 0).places is None


def test_unconditional_batches_hold_the_null_class_alone(batch_of):
    assert batch_of(num_classes=0).y.tolist() == [0] * 48


def test_noise_and_latent_draw_are_independent(batch_of):
    dataset = FakeLatents(480)
    batch = batch_of(dataset=dataset, share=Share(480), flip=False)
    draw = (batch.x_0 - dataset.moments[batch.indices, :2]) / np.exp(-2.0)
    assert abs((draw * batch.noise).mean().item()) < 4 / np.sqrt(draw.numel())
    assert draw.std().item() == pytest.approx(1, abs=0.02)


def test_batches_are_the_same_in_any_order_of_asking(batch_of):
    """A run that is resumed begins in the middle; a test may go back."""
    source = make_source(share=Share(8, num_micros=2))
    for step, micro in ((4, 0), (4, 1), (5, 0), (2, 1), (2, 1), (3, 0)):
        found, expected = source.batch(step, micro), batch_of(step, micro, share=source.share)
        assert torch.equal(found.x_0, expected.x_0)
        assert found.positions == expected.positions == range(8 * step + 4 * micro, 8 * step + 4 * micro + 4)
    source.close()


def test_waits_are_counted_and_no_thread_is_left():
    before = threading.active_count()
    source = make_source()
    source.batch(0, 0)
    assert source.stopwatch.seconds["data"] > 0
    assert threading.active_count() > before
    source.close()
    assert threading.active_count() == before
