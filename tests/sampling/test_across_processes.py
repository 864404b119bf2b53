"""Any process with any solver: they meet in (alpha, sigma) alone."""

import pytest
import torch

from dit.diffusion.config import FlowConfig
from dit.diffusion.create import create_process
from dit.sampling.config import SamplingConfig
from dit.sampling.sample import sample
from tests.goldens import load_network
from tests.proofs.gaussian_data import GaussianData, process_of
from tests.proofs.reference import PATHS

SHAPE = (4, 8, 8)
ODE = ["euler", "heun", "midpoint", "dopri5", "ddim", "dpmpp_2m", "unipc"]
SDE = ["ddpm", "dpmpp_2m_sde", "euler_maruyama"]


@pytest.mark.parametrize("solver", ODE)
@pytest.mark.parametrize("name", PATHS)
def test_ode_solvers_carry_noise_along_the_exact_flow(name, solver):
    """A Gaussian-trained model by ODE solvers, a flow model by DPM-Solver++: all end where the exact flow does."""
    process, data = process_of(name), GaussianData(PATHS[name], mean=0.5, std=0.6)
    network = data.network(process, getattr(process.config, "prediction", "eps"))
    noise = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = "quadratic" if solver in ("euler", "heun", "midpoint", "dopri5") else "log_snr"
    steps = 1 if solver == "dopri5" else 100  # an adaptive solver chooses its own
    sampling = SamplingConfig(solver=solver, steps=steps, grid=grid)
    latents = sample(network, process, torch.zeros(3), SHAPE, sampling=sampling, noise=noise).latents
    start = 0.999 if grid == "log_snr" and PATHS[name].alpha(1.0) < 1e-3 else 1.0
    assert (latents - data.flow(noise, start, 0.0)).abs().max() < (0.1 if solver in ("euler", "ddim") else 5e-3)


@pytest.mark.parametrize("solver", SDE)
@pytest.mark.parametrize("name", PATHS)
def test_sde_solvers_draw_from_the_data(name, solver):
    """Mean and deviation of 20 x 256 samples of N(0.5, 0.6^2)."""
    process, data = process_of(name), GaussianData(PATHS[name], mean=0.5, std=0.6)
    network = data.network(process, getattr(process.config, "prediction", "eps"))
    sampling = SamplingConfig(solver=solver, steps=150, grid="log_snr")
    latents = sample(network, process, torch.zeros(20), SHAPE, sampling=sampling).latents
    assert abs(latents.mean() - 0.5) < 4 * 0.6 / 5120**0.5
    assert abs(latents.std() / 0.6 - 1) < 0.03 + 4 / (2 * 5120) ** 0.5  # the solver's own error, and 4 standard errors


@pytest.fixture(scope="module", params=["gaussian", "flow"])
def trained(request):
    """A golden network, its process, and the sample that DDIM converges to with many steps."""
    if request.param == "gaussian":
        network, process = load_network("dit_p2_sigma")[0], process_of("discrete_linear", learn_sigma=True)
    else:
        sit = FlowConfig(time_scale=-1.0, time_offset=1.0, output_sign=-1, learn_sigma=True)
        network, process = load_network("sit_linear_velocity")[0], create_process(sit)
    return network, process, draw(network, process, "ddim", 300)


def draw(network, process, solver, steps):
    # Random networks are rough close to the ends, where trained ones are not.
    sampling = SamplingConfig(solver=solver, steps=steps, grid={"name": "log_snr", "t_start": 0.9, "t_end": 0.1})
    noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    return sample(network, process, torch.tensor([0, 3]), SHAPE, sampling=sampling, noise=noise).latents


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m", "unipc"])
def test_networks_of_both_kinds_by_ode_solvers_and_dpm_solver(trained, solver):
    network, process, expected = trained
    actual = draw(network, process, solver, 100)
    assert (actual - expected).square().mean().sqrt() < 0.02 * expected.std()
