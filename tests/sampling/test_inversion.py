import pytest
import torch

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError
from dit.rng import Purpose, normal
from dit.sampling.config import SamplingConfig
from dit.sampling.interpolation import ClassMixture, slerp
from dit.sampling.inversion import invert
from dit.sampling.sampler import sample
from tests.goldens import load_network
from tests.proofs.gaussian_data import GaussianData, process_of
from tests.proofs.reference import PATHS

SHAPE = (4, 8, 8)
Y = torch.tensor([0, 3])


@pytest.mark.parametrize(
    ("name", "solver", "tolerance"),
    [("linear", "heun", 2e-3), ("linear", "euler", 5e-2), ("discrete_linear", "ddim", 5e-2)],
)
def test_inversion_of_gaussian_data_standardises_it_and_comes_back(name, solver, tolerance):
    """The ODE's map between N(0, s^2) and N(0, 1) is a division by s."""
    process, latents = process_of(name), 0.5 * torch.randn(2, *SHAPE)
    model = GaussianData(PATHS[name], std=0.5).network(process)
    sampling = SamplingConfig(solver=solver, steps=100)
    inverted = invert(model, process, Y, latents, sampling=sampling)
    torch.testing.assert_close(inverted.latents, latents / 0.5, rtol=tolerance, atol=tolerance)
    back = sample(model, process, Y, SHAPE, sampling=sampling, noise=inverted.latents).latents
    torch.testing.assert_close(back, latents, rtol=tolerance, atol=tolerance)


def test_inversion_of_a_networks_own_sample_finds_its_noise():
    network, process = load_network("sit_linear_velocity")[0], create_process(FlowConfig(learn_sigma=True))
    sampling = SamplingConfig(solver="heun", steps=64)
    noise = normal(0, Purpose.START_NOISE, range(2), SHAPE)
    latents = sample(network, process, Y, SHAPE, sampling=sampling, noise=noise).latents
    found = invert(network, process, Y, latents, sampling=sampling).latents
    assert (found - noise).square().mean().sqrt() < 0.02


@pytest.mark.parametrize("solver", ["ddpm", "dpmpp_2m", {"name": "ddim", "eta": 0.5}])
def test_solvers_that_cannot_go_back_are_refused(solver):
    sampling = SamplingConfig(steps=5, solver=solver)
    with pytest.raises(ConfigError, match="inversion needs a solver without noise"):
        invert(None, create_process(GaussianConfig()), Y, torch.zeros(2, *SHAPE), sampling=sampling)


def test_slerp_keeps_the_norm_and_meets_both_ends():
    a, b = torch.nn.functional.normalize(torch.randn(2, 3, 64), dim=-1)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    middle = slerp(a, b, 0.5)
    torch.testing.assert_close(middle.norm(dim=1), torch.ones(3))
    torch.testing.assert_close((middle * a).sum(1), (middle * b).sum(1))
    assert torch.equal(slerp(a, a, 0.3), a)


def test_a_class_mixture_is_each_class_at_its_ends_and_leaves_the_null_class_alone():
    def model(x, t, y):
        return y[:, None, None, None].float().expand(-1, 1, 1, 1)

    model.null_class = 9
    x, t, y = torch.zeros(3, 1, 1, 1), torch.zeros(3), torch.tensor([1, 1, 1])
    mixture = ClassMixture(model, torch.tensor([5, 5, 5]), torch.tensor([0.0, 0.5, 1.0]))
    assert mixture(x, t, y).flatten().tolist() == [1, 3, 5]
    doubled = mixture(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, 9)]))
    assert doubled.flatten().tolist() == [1, 3, 5, 9, 9, 9]
