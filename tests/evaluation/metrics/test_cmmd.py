import pytest
import torch

from dit.evaluation.metrics.cmmd import ClipDiscrepancy
from tests.evaluation.metrics.pairs import FIGURES, NAMES, feature_set, load_pair, mean_and_deviation, normal, repeat


def unit(rows):
    return torch.nn.functional.normalize(rows, dim=1)


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_original(name):
    samples, reference = (unit(features.rows("pool") + 1e-6) for features in load_pair(name))
    found = ClipDiscrepancy().measure(feature_set("projection", samples), feature_set("projection", reference))["cmmd"]
    assert found.value == pytest.approx(FIGURES[name]["cmmd_on_unit_vectors"], abs=1e-3)  # theirs is float32


def draw(num, seed):
    return unit(normal(num, 6, seed=seed) + 0.5)


def test_error_is_what_drawing_again_shows():
    """150 repetitions know the deviation to 6%."""
    metric, reference = ClipDiscrepancy(), feature_set("projection", unit(normal(400, 6)))
    found = repeat(metric, reference, lambda seed: draw(300, seed), 150, "cmmd")
    _, deviation = mean_and_deviation([figure.value for figure in found])
    assert mean_and_deviation([figure.standard_error for figure in found])[0] == pytest.approx(deviation, rel=0.18)


def test_perfect_samples_have_the_floor():
    """As many as there are make the mean uncertain by 4%."""
    values, floors = [], []
    for seed in range(150):
        samples, reference = (feature_set("projection", draw(100, first + seed)) for first in (0, 1000))
        found = ClipDiscrepancy().measure(samples, reference)["cmmd"]
        values.append(found.value)
        floors.append(found.floor)
    assert mean_and_deviation(values)[0] == pytest.approx(mean_and_deviation(floors)[0], rel=0.12)
