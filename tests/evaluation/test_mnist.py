"""The embedded evaluation as a whole, on real digits: good samples look good in it and bad ones bad."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dit.data.config import DataConfig
from dit.data.images import open_images
from dit.evaluation.config import EvaluationConfig
from dit.evaluation.evaluate import Evaluated, evaluate
from dit.evaluation.features import load_features

NUM = 200


@pytest.fixture(scope="module")
def digits():
    """200 held-out digits, and all training digits."""
    config = DataConfig(source="mnist", image_size=32)
    held_out, training = open_images(config, "val"), open_images(config, "train")
    return replace(held_out, labels=held_out.labels[:NUM]), training


def draw_real(training, labels, positions):
    """Give each position a training digit of its class. They are shuffled, for neighbours are by one writer."""
    images, order = [], np.random.default_rng(0).permutation(len(training))
    for label, position in zip(labels.tolist(), positions, strict=True):
        index = order[training.labels[order] == label][position // 10]
        images.append(torch.from_numpy(training.read(int(index)).copy()).permute(2, 0, 1))
    return torch.stack(images)


def measure(digits, sampler, folder):
    sampler.num_calls = 0  # nothing to count
    held_out, training = digits
    return evaluate(
        Evaluated(
            sampler,
            EvaluationConfig(num=NUM),
            load_features("mnist"),
            training.class_names,
            held_out,
            training,
        ),
        folder / "parts",
    )


def test_real_digits_reach_the_floor(digits, tmp_path):
    evaluation = measure(digits, lambda labels, positions: draw_real(digits[1], labels, positions), tmp_path)
    assert evaluation.accuracy > 0.98
    assert evaluation.accuracy_reference > 0.95
    assert evaluation.frechet_distance == pytest.approx(evaluation.frechet_floor, rel=0.5)
    assert evaluation.warnings == ()


@pytest.mark.parametrize(
    ("spoil", "expected_accuracy"),
    [
        (lambda images: images.roll(1, dims=0), 0.0),  # the digit of the class before: only the accuracy sees it
        (lambda images: 255 - images, None),
        (lambda images: images[:1].expand_as(images).contiguous(), 0.1),  # always the same digit
    ],
    ids=["swapped", "inverted", "collapsed"],
)
def test_bad_digits_are_told_from_good_ones(digits, spoil, expected_accuracy, tmp_path):
    evaluation = measure(digits, lambda labels, positions: spoil(draw_real(digits[1], labels, positions)), tmp_path)
    if expected_accuracy == 0.0:
        assert evaluation.accuracy < 0.02
        assert evaluation.frechet_distance == pytest.approx(evaluation.frechet_floor, rel=0.5)
    else:
        assert evaluation.frechet_distance > 5 * evaluation.frechet_floor
        assert evaluation.accuracy == pytest.approx(expected_accuracy or 0.1, abs=0.2)
