"""Proof 10: the likelihood through the probability flow, against Gaussian densities."""

import math

import numpy as np
import pytest
import torch

from dit.sampling.config import LikelihoodConfig
from dit.sampling.grid import grid_of_times
from dit.sampling.likelihood import Flow, draw_probes, nll_grid, ode_nll
from tests.proofs.gaussian_data import GaussianData, process_of
from tests.proofs.reference import PATHS

MEAN = 0.4
# 64 standard normal quantiles: a sample whose moments are those of the law.
Z = torch.special.ndtri((torch.arange(64, dtype=torch.float64) + 0.5) / 64).reshape(1, 4, 4, 4)
Y = torch.zeros(1, dtype=torch.int64)


def nll_of(name, std, x_0, **options):
    process, data = process_of(name), GaussianData(PATHS[name], mean=MEAN, std=std)
    return data, ode_nll(data.network(process), process, x_0, Y, likelihood=LikelihoodConfig(**options))


def density(x, mean, std) -> float:
    """Return the mean over all entries of -log N(x; mean, std^2)."""
    return float(((x - mean) ** 2 / (2 * std**2)).mean()) + 0.5 * math.log(2 * math.pi * std**2)


@pytest.mark.parametrize("options", [{}, {"solver": "dopri5", "tolerance": 1e-7}], ids=["heun", "dopri5"])
@pytest.mark.parametrize("std", [0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", ["linear", "gvp"])
def test_proof_10_nll_is_that_of_the_data(name, std, options):
    """Where the flow goes from t=0 to alpha=0 the model's density is the data's: no end is cut off."""
    _, nll = nll_of(name, std, MEAN + std * Z, **options)
    assert (nll.t_end, nll.t_start, nll.smoothing) == (0, 1, 0)
    assert abs(nll.nats_per_dim.item() - density(MEAN + std * Z, MEAN, std)) < (1e-4 if not options else 2e-6)


@pytest.mark.parametrize(
    ("std", "options"),
    [(0.3, {}), (2.0, {}), (0.3, {"t_start": 0.8}), (0.3, {"solver": "dopri5", "tolerance": 1e-7})],
)
@pytest.mark.parametrize("name", PATHS)
def test_proof_10_nll_is_that_of_the_model_between_its_ends(name, std, options):
    """The exact flow from alpha x_0 at t_end to N(0, alpha^2 + sigma^2) at t_start, and its change of volume.

    Heun's 128 steps miss it by 1 / 128^2 or so; more noise makes the flow steeper near the data, and its error larger.
    """
    x_0 = MEAN + std * Z
    data, nll = nll_of(name, std, x_0, **options)
    alpha = float(PATHS[name].alpha(nll.t_end))
    end = data.flow(alpha * x_0, nll.t_end, nll.t_start)
    volume = alpha * np.sqrt(PATHS[name].variance(nll.t_start, std) / PATHS[name].variance(nll.t_end, std))
    deviation = PATHS[name].variance(nll.t_start, 1.0) ** 0.5
    tolerance = 5e-6 if "solver" in options else {"linear_noise_2": 2e-4, "edm": 6e-3}.get(name, 1e-4)
    assert nll.t_start == options.get("t_start", 1)
    assert abs(nll.nats_per_dim.item() - (density(end, 0.0, deviation) - math.log(volume))) < tolerance


@pytest.mark.parametrize("std", [0.3, 1.0])
@pytest.mark.parametrize("name", ["vp_cosine", "discrete_cosine"])
def test_proof_10_a_path_that_ends_early_smooths_the_data(name, std):
    """The figure is the density of data with noise sigma / alpha added, which outlying data tell from their own."""
    x_0 = MEAN + 2 * std * Z
    _, nll = nll_of(name, std, x_0, solver="dopri5", tolerance=1e-7)
    assert nll.t_end == 0.001
    assert nll.smoothing == pytest.approx(PATHS[name].sigma(0.001) / PATHS[name].alpha(0.001), rel=1e-9)
    assert abs(nll.nats_per_dim.item() - density(x_0, MEAN, math.hypot(std, nll.smoothing))) < 1e-5
    assert abs(nll.nats_per_dim.item() - density(x_0, MEAN, std)) > 5e-5


@pytest.mark.parametrize("probes", ["rademacher", "gaussian"])
@pytest.mark.parametrize("name", PATHS)
def test_proof_10_hutchinsons_trace_of_a_diagonal_jacobian(name, probes):
    """The divergence is d V' / (2 V): exactly for signs, whose squares are 1; within 4 standard errors for normals."""
    process, data = process_of(name), GaussianData(PATHS[name], mean=MEAN, std=0.5)
    grid = grid_of_times(process.schedule, process.prediction, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    z = draw_probes(LikelihoodConfig(probes=probes, num_probes=50), 3, range(2), (4, 4, 4)).double()
    flow = Flow(data.denoise, grid, z)
    for t in grid.t:
        v, divergence = flow(Z.expand(2, -1, -1, -1), t)
        torch.testing.assert_close(v, data.velocity(Z, float(t)).expand_as(v), rtol=1e-12, atol=1e-12)
        expected = 64 * float(PATHS[name].rate(float(t), 0.5))
        error = divergence - expected
        if probes == "rademacher":
            assert error.abs().max() < 1e-10
        else:
            assert abs(error.mean()) < 4 * error.std() / error.numel() ** 0.5
            assert error.std() > 1e-3 * abs(expected)


@pytest.mark.parametrize("name", PATHS)
def test_proof_10_hutchinsons_trace_of_a_full_jacobian_is_unbiased(name):
    """A linear velocity with off-diagonal entries: the estimates scatter around the trace."""
    from dit.diffusion.process import Denoised

    process = process_of(name)
    matrix = torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = grid_of_times(process.schedule, process.prediction, torch.tensor([0.5], dtype=torch.float64))
    z = draw_probes(LikelihoodConfig(num_probes=400), 0, range(2), (4, 2, 2)).double()
    flow = Flow(lambda x, t: Denoised(2 * x, (x.flatten(1) @ matrix.T).reshape(x.shape)), grid, z)
    _, divergence = flow(torch.zeros(2, 4, 2, 2, dtype=torch.float64), grid.t[0])
    path, t = process.schedule, grid.t[0]
    expected = float(2 * 16 * path.d_alpha(t) + path.d_sigma(t) * matrix.trace())
    assert abs(divergence.mean() - expected) < 4 * divergence.std() / divergence.numel() ** 0.5
    assert divergence.std() > 0.1


def test_proof_10_the_grid_is_fine_where_there_is_little_noise():
    grid = nll_grid(process_of("discrete_linear"), LikelihoodConfig(steps=10))
    u = np.arange(11) / 10
    np.testing.assert_allclose(grid.t.numpy(), 0.001 + 0.999 * u**2, rtol=1e-12)
