import numpy as np
import pytest
import scipy.linalg
import torch

from dit.errors import DitError
from dit.evaluation.metrics.frechet import Moments, frechet_distance


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


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_moments_equal_numpys_whatever_the_batches(batch_size):
    features = normal(100, 5) * 3 + torch.arange(5)
    moments = Moments(5)
    for batch in features.split(batch_size):
        moments.update(batch)
    moments.update(features[:0])
    assert moments.count == 100
    np.testing.assert_allclose(moments.mean, features.numpy().mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-12, atol=1e-13)


def test_moments_do_not_cancel_far_from_zero():
    """A sum of squares minus the square of the sum would lose all sixteen digits here."""
    features = normal(1000, 3)
    moments, shifted = Moments(3), Moments(3)
    for batch in features.split(10):
        moments.update(batch)
        shifted.update(batch + 1e8)
    torch.testing.assert_close(shifted.covariance, moments.covariance, rtol=1e-6, atol=1e-6)


def test_moments_of_another_width_are_refused():
    with pytest.raises(DitError, match=r"expected \(N, 3\), found \(2, 4\)"):
        Moments(3).update(normal(2, 4))


def test_moments_of_one_sample_have_no_covariance():
    moments = Moments(3)
    moments.update(normal(1, 3))
    with pytest.raises(DitError, match="at least 2 samples"):
        _ = moments.covariance
