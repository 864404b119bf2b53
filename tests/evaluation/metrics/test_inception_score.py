import pytest
import torch

from dit.evaluation.metrics.inception_score import InceptionScore
from tests.evaluation.metrics.pairs import FIGURES, feature_set, mean_and_deviation, normal, repeat
from tests.goldens import load_tensors

PUBLISHED = FIGURES["inception_score"]


def golden_logits():
    tensors = load_tensors("evaluation")
    return tensors["is_features"] @ tensors["is_weight"]


def score(logits, metric, labels=None):
    samples = feature_set("logits", logits, labels)
    return metric.measure(samples, samples)["inception_score"]


@pytest.mark.parametrize("kind", PUBLISHED["adm"])
def test_equals_adm_in_consecutive_splits(kind):
    expected = PUBLISHED["adm"][kind]
    found = score(golden_logits(), InceptionScore(expected["split_size"]))
    assert found.value == pytest.approx(expected["value"], rel=1e-6)  # theirs is float32


def test_equals_torch_fidelity_in_shuffled_tenths():
    expected = PUBLISHED["torch_fidelity_10_splits_shuffled"]
    found = score(golden_logits(), InceptionScore(None, shuffle=True))
    assert found.value == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert found.spread == pytest.approx(expected["inception_score_std"], rel=1e-6)


def test_sure_and_even_predictions_score_the_number_of_classes():
    logits = 1000 * torch.eye(8).repeat(10, 1)
    assert score(logits, InceptionScore()).value == pytest.approx(8, rel=1e-12)
    assert score(torch.zeros(80, 8), InceptionScore()).value == pytest.approx(1, rel=1e-12)


def test_samples_sorted_by_class_are_shuffled_and_it_is_said():
    logits, labels = (1000 * torch.eye(4)).repeat_interleave(100, dim=0), torch.arange(4).repeat_interleave(100)
    assert score(logits, InceptionScore(100)).value == pytest.approx(1)  # a split holds one class
    found = score(logits, InceptionScore(100), labels)
    assert found.value > 3.8
    assert "sorted by class" in found.note
    mixed = torch.arange(400) % 4
    assert score(logits[100 * mixed], InceptionScore(100), mixed).note is None


def test_error_is_what_drawing_again_shows():
    """150 repetitions know the deviation to 6%."""
    found = repeat(
        InceptionScore(500),
        feature_set("logits", normal(2, 6)),
        lambda seed: 2 * normal(1000, 6, seed=seed),
        150,
        "inception_score",
    )
    _, deviation = mean_and_deviation([figure.value for figure in found])
    assert mean_and_deviation([figure.standard_error for figure in found])[0] == pytest.approx(deviation, rel=0.18)
