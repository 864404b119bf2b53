"""Proof 18: laws of the training times. A law maps a uniform number to its quantile, and its CDF maps it back.

A shift s moves t to t' = s t / (1 + (s - 1) t), whose inverse is t = t' / (s - (s - 1) t').
"""

import numpy as np
import pytest
import torch
from scipy.special import logit
from scipy.stats import norm

from dit.diffusion.config import EdmConfig, FlowConfig, GaussianConfig, LogitNormalTime, LogNormalNoise, UniformTime
from dit.diffusion.create import create_process

U = (np.arange(500) + 0.5) / 500


def times(config) -> np.ndarray:
    """Return the times at which a process takes its losses for the numbers U."""
    u, x = torch.from_numpy(U), torch.zeros(len(U), 1, 1, 1)
    return create_process(config).losses(lambda x, t, y: x, x, u, noise=x, u=u).t.numpy()


def assert_quantiles(cdf):
    """The numbers that the CDF gives back; logits of times near 1 have lost digits."""
    np.testing.assert_allclose(cdf, U, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [1.0, 0.4, 3.0])
@pytest.mark.parametrize(
    ("mean", "scale", "largest"), [(0.0, 1.0, 1.0), (-0.4, 1.3, 1.0), (0.8, 0.8, 0.6), (-1, 2, 0.1)]
)
def test_proof_18_logit_normal_times(mean, scale, largest, shift):
    """F(t) = Phi((logit t - mean) / scale), over its value at the time where the law is cut off."""
    law = LogitNormalTime(mean=mean, scale=scale, largest=largest, shift=shift)
    t = times(FlowConfig(time_law=law))
    before = t / (shift - (shift - 1) * t)
    end = norm.cdf((logit(largest) - mean) / scale)
    assert before.max() < largest
    assert_quantiles(norm.cdf((logit(before) - mean) / scale) / end)


def test_proof_18_logit_normal_times_of_a_network_whose_time_runs_the_other_way():
    """JiT draws sigmoid(0.8 z - 0.8) of a time that is 1 at the data."""
    t = times(FlowConfig(time_law=LogitNormalTime(mean=0.8, scale=0.8)))
    np.testing.assert_allclose(np.sort(1 - t), 1 / (1 + np.exp(0.8 - 0.8 * norm.ppf(U))), rtol=1e-12)


@pytest.mark.parametrize("shift", [1.0, 0.4, 3.0])
def test_proof_18_uniform_times(shift):
    t = times(FlowConfig(time_law=UniformTime(shift=shift)))
    assert_quantiles(t / (shift - (shift - 1) * t))


@pytest.mark.parametrize("sigma_max", [80.0, 2.0])
@pytest.mark.parametrize(("mean", "scale"), [(-1.2, 1.2), (0.3, 0.7)])
def test_proof_18_log_normal_noise_levels(mean, scale, sigma_max):
    """F(sigma) = Phi((ln sigma - mean) / scale), over its value at sigma_max, where the schedule ends."""
    t = times(EdmConfig(sigma_max=sigma_max, time_law=LogNormalNoise(mean=mean, scale=scale)))
    end = norm.cdf((np.log(sigma_max) - mean) / scale)
    assert_quantiles(norm.cdf((np.log(sigma_max * t) - mean) / scale) / end)


def test_proof_18_steps_of_a_discrete_process_are_the_intervals_that_the_times_fall_into():
    law = LogitNormalTime(mean=-0.4, scale=1.3)
    steps = times(GaussianConfig(learn_sigma=False, time_law=law))
    np.testing.assert_array_equal(steps, (np.floor(1000 * times(FlowConfig(time_law=law))) + 1) / 1000)
