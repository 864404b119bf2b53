import numpy as np
import pytest
import scipy.linalg
import torch

from dit.errors import DitError
from dit.evaluation.metrics.frechet import FrechetDistance, frechet_distance
from dit.evaluation.moments import Moments
from tests.evaluation.metrics.pairs import FIGURES, NAMES, feature_set, load_pair, mean_and_deviation, repeat


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(size, *, rank=None, seed=0):
    factor = normal(size, rank or size, seed=seed)
    return factor @ factor.T / size


def test_distance_of_diagonal_gaussians_is_the_closed_form():
    """Independent coordinates: the sum of (m_1 - m_2)^2 + (s_1 - s_2)^2."""
    mean_1, mean_2 = normal(7, seed=1), normal(7, seed=2)
    deviation_1, deviation_2 = normal(7, seed=3).abs(), normal(7, seed=4).abs()
    found = frechet_distance(mean_1, deviation_1.square().diag(), mean_2, deviation_2.square().diag())
    assert found == pytest.approx(((mean_1 - mean_2) ** 2 + (deviation_1 - deviation_2) ** 2).sum().item(), rel=1e-12)


def test_distance_is_invariant_under_rotation_and_scales_with_the_square():
    mean_1, mean_2, cov_1, cov_2 = normal(6, seed=1), normal(6, seed=2), covariance(6, seed=3), covariance(6, seed=4)
    expected = frechet_distance(mean_1, cov_1, mean_2, cov_2)
    turn = torch.linalg.qr(normal(6, 6, seed=5)).Q
    turned = frechet_distance(turn @ mean_1, turn @ cov_1 @ turn.T, turn @ mean_2, turn @ cov_2 @ turn.T)
    assert turned == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(3 * mean_1, 9 * cov_1, 3 * mean_2, 9 * cov_2) == pytest.approx(9 * expected, rel=1e-12)
    assert frechet_distance(mean_2, cov_2, mean_1, cov_1) == pytest.approx(expected, rel=1e-12)


def test_distance_equals_scipys_matrix_root():
    mean_1, mean_2, cov_1, cov_2 = (
        normal(12, seed=1),
        normal(12, seed=2),
        covariance(12, seed=3),
        covariance(12, seed=4),
    )
    root = scipy.linalg.sqrtm(cov_1.numpy() @ cov_2.numpy()).real
    expected = ((mean_1 - mean_2) ** 2).sum().item() + np.trace(cov_1.numpy() + cov_2.numpy() - 2 * root)
    assert frechet_distance(mean_1, cov_1, mean_2, cov_2) == pytest.approx(expected, rel=1e-10)


def test_distance_equals_torch_fidelity():
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    one, other = normal(200, 16, seed=1), normal(150, 16, seed=2) @ normal(16, 16, seed=3) + 0.5
    statistics = [metric_fid.fid_features_to_statistics(features) for features in (one, other)]
    expected = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID]
    moments = [Moments(16), Moments(16)]
    for accumulator, features in zip(moments, (one, other), strict=True):
        accumulator.update(features)
    first, second = moments
    found = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert found == pytest.approx(expected, rel=1e-9)


def test_distance_of_singular_covariances():
    """Two one-dimensional Gaussians along orthogonal axes of a space of 20: nothing is transported between them."""
    along_first, along_second = torch.zeros(20, 20).double(), torch.zeros(20, 20).double()
    along_first[0, 0], along_second[1, 1] = 4.0, 9.0
    zero = torch.zeros(20).double()
    assert frechet_distance(zero, along_first, zero, along_second) == pytest.approx(13.0, rel=1e-12)
    low_rank = covariance(20, rank=3)
    assert frechet_distance(zero, low_rank, zero, low_rank) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(zero, low_rank, zero, 4 * low_rank) == pytest.approx(low_rank.trace().item(), rel=1e-6)


def test_distance_to_itself_is_zero_and_never_negative():
    mean, cov = normal(30, seed=1), covariance(30, seed=2)
    assert 0.0 <= frechet_distance(mean, cov, mean, cov) < 1e-10


@pytest.mark.parametrize("place", ["mean", "covariance"])
def test_distance_refuses_what_is_not_finite(place):
    mean, cov = normal(4), covariance(4)
    (mean if place == "mean" else cov)[2] = float("nan")
    with pytest.raises(DitError, match="finite"):
        frechet_distance(mean, cov, normal(4), covariance(4))


def test_distance_refuses_what_is_no_covariance():
    with pytest.raises(DitError, match="negative eigenvalues"):
        frechet_distance(normal(3), -torch.eye(3).double(), normal(3), covariance(3))


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_published_evaluators(name):
    """Tolerances relative to the traces: the square roots of others are inexact where a covariance is singular, and
    ADM rounds means to float32."""
    (found,) = FrechetDistance("fid", "pool").measure(*load_pair(name)).values()
    expected = FIGURES[name]["frechet"]
    scale = expected["trace_sum"]
    exact = 5e-8 if name in ("rank", "few", "ties") else 1e-9
    assert found.value == pytest.approx(expected["edm2"], abs=exact * scale)
    for other in ("adm", "torch_fidelity"):
        assert found.value == pytest.approx(expected[other], abs=(3e-6 if name == "far" else 5e-8) * scale)
    assert found.value >= 0


def skewed(seed, num, width=12):
    """Features that are cut off at 0 as real ones, whose fourth moments are not a Gaussian's."""
    return normal(num, width, seed=seed).clamp(min=0) @ normal(width, width, seed=99)


def test_error_and_floor_are_what_drawing_again_shows():
    """200 repetitions know the deviation to 5%; of perfect samples the value is the floor."""
    metric, reference = FrechetDistance("fid", "features"), feature_set("features", skewed(1000, 40_000))
    found = repeat(metric, reference, lambda seed: 1.1 * skewed(seed, 1000) + 0.3, 200, "fid")
    _, deviation = mean_and_deviation([figure.value for figure in found])
    assert mean_and_deviation([figure.standard_error for figure in found])[0] == pytest.approx(deviation, rel=0.15)
    perfect = repeat(metric, reference, lambda seed: skewed(seed, 1000), 100, "fid")
    mean, _ = mean_and_deviation([figure.value for figure in perfect])
    assert mean_and_deviation([figure.floor for figure in perfect])[0] == pytest.approx(mean, rel=0.1)


def test_error_of_balanced_labels_is_within_classes():
    """Between classes that are asked for equally often nothing is left to chance."""
    labels = torch.arange(600) % 3
    metric, reference = FrechetDistance("fid", "features"), feature_set("features", skewed(0, 5000, 3))
    rows = skewed(1, 600, 3) + 50 * normal(3, 3, seed=5)[labels]
    errors = [
        metric.measure(feature_set("features", rows, given), reference)["fid"].standard_error
        for given in (None, labels, torch.zeros(600).long())
    ]
    assert errors[0] == errors[2] > 3 * errors[1]
    by_class = [metric.measure(feature_set("features", rows[labels == k]), reference)["fid"] for k in range(3)]
    assert all(figure.standard_error > 0 for figure in by_class)


def test_too_few_samples_have_no_error():
    metric = FrechetDistance("fid", "features")
    assert metric.num_needed(12) == 13
    reference = feature_set("features", skewed(0, 100))
    found = metric.measure(feature_set("features", skewed(1, 12)), reference)["fid"]
    assert found.standard_error is found.floor is None
