"""Batches: which positions a micro-batch has, and that a sample is the same in any batch."""

import numpy as np
import pytest
import torch

from dit.data.order import positions_to_indices
from dit.training.batch import BatchSource, positions_of
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
    }
    return BatchSource(**(arguments | changes))


@pytest.mark.parametrize(("num_processes", "num_micros"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 2)])
def test_micro_batches_cut_the_step_into_its_positions_in_order(num_processes, num_micros):
    cut = [
        position
        for rank in range(num_processes)
        for micro in range(num_micros)
        for position in positions_of(3, 16, rank=rank, num_processes=num_processes, micro=micro, num_micros=num_micros)
    ]
    assert cut == list(range(48, 64))


def test_a_sample_does_not_depend_on_its_batch():
    source = make_source()
    whole = source.draw(range(40, 56))
    for part in (source.draw(range(44, 48)), source.draw([44, 45, 46, 47])):
        for name in ("x_0", "y", "noise", "u"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[4:8]), name
        assert (part.indices == whole.indices[4:8]).all()


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5])
def test_labels_are_dropped_at_their_rate(probability):
    batch = make_source(drop_probability=probability).draw(range(4800))
    dropped = batch.y == 3
    assert dropped.double().mean().item() == pytest.approx(probability, abs=4 * np.sqrt(0.25 / 4800))
    labels = torch.from_numpy(FakeLatents().labels[batch.indices])
    assert torch.equal(batch.y[~dropped], labels[~dropped])
    assert torch.equal(batch.y, make_source(drop_probability=probability).draw(range(4800)).y)


def test_half_of_the_samples_are_flipped_where_the_recipe_says_so():
    dataset = FakeLatents()
    indices = positions_to_indices(range(480), 48, seed=5)
    plain = dataset.get(indices, np.zeros(480, dtype=bool))[0][:, :2]
    for flip, expected in ((True, 0.5), (False, 0.0)):
        drawn = make_source(flip=flip).draw(range(480)).x_0
        flipped = (drawn - plain.flip(-1)).abs().mean((1, 2, 3)) < (drawn - plain).abs().mean((1, 2, 3))
        assert flipped.double().mean().item() == pytest.approx(expected, abs=0.1)


def test_unconditional_batches_hold_the_null_class_alone():
    assert make_source(num_classes=0).draw(range(16)).y.tolist() == [0] * 16


def test_noise_and_latent_draw_are_independent():
    batch = make_source(flip=False).draw(range(480))
    mean = torch.stack([FakeLatents().moments[i, :2] for i in batch.indices])
    draw = (batch.x_0 - mean) / np.exp(-2.0)
    assert abs((draw * batch.noise).mean().item()) < 4 / np.sqrt(draw.numel())
    assert draw.std().item() == pytest.approx(1, abs=0.02)
