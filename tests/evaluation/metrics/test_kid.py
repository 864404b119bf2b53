import pytest

from dit.evaluation.metrics.kid import KernelDistance, kernel_distance
from tests.evaluation.metrics.pairs import FIGURES, NAMES, feature_set, load_pair, mean_and_deviation, normal


@pytest.mark.parametrize("name", NAMES)
def test_equals_torch_fidelity_and_float64(name):
    samples, reference = load_pair(name)
    expected = FIGURES[name]["kid"]["torch_fidelity"]
    metric = KernelDistance(expected["subsets"], expected["subset_size"], expected["seed"])
    found = metric.measure(samples, reference)["kid"]
    tolerance = 5e-2 if name == "far" else 5e-5  # theirs is float32
    assert found.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=tolerance)
    assert found.spread == pytest.approx(expected["kernel_inception_distance_std"], rel=tolerance)
    single = FIGURES[name]["kid"]["one_subset_first_n_rows_float64"]
    rows = [features.rows("pool")[: single["n"]] for features in (samples, reference)]
    assert kernel_distance(*rows) == pytest.approx(single["value"], rel=1e-8)


def test_error_is_what_drawing_again_shows():
    """100 repetitions, samples and reference anew, know the deviation to 7%."""
    metric, values, errors = KernelDistance(20, 100), [], []
    for seed in range(100):
        samples, reference = 1.3 * normal(1000, 4, seed=seed), normal(1000, 4, seed=1000 + seed)
        figure = metric.measure(feature_set("pool", samples), feature_set("pool", reference))["kid"]
        values.append(figure.value)
        errors.append(figure.standard_error)
    assert mean_and_deviation(errors)[0] == pytest.approx(mean_and_deviation(values)[1], rel=0.2)
