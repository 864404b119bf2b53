import numpy as np
import pytest
import torch

from dit.errors import DitError
from dit.evaluation.moments import Moments


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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
