"""Metamorphic properties of sampling and losses; those of the network itself are tested beside it."""

import pytest
import torch

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.layers.embed import patchify, unpatchify
from dit.rng import Purpose, normal, uniform
from dit.sampling.config import SamplingConfig, from_first_format
from dit.sampling.sampler import sample
from tests.proofs.gaussian_data import process_of

SHAPE = (2, 3, 4)
Y = torch.tensor([0, 3, 1, 2, 0, 3, 2])
SOLVERS = ["ddpm", "ddim", "euler", "heun", "midpoint", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "euler_maruyama"]


def elementwise(x, t, y):
    """A network whose arithmetic is the same for a sample in any batch, bit for bit."""
    return torch.tanh(x) * 0.8 + 0.1 * (y + t / 1000).reshape(-1, 1, 1, 1)


def draw(name, solver, positions):
    sampling = SamplingConfig(**from_first_format({"solver": solver, "steps": 6, "eta": 0.6}))
    process = process_of(name)
    return sample(elementwise, process, Y[positions], SHAPE, sampling=sampling, seed=9, positions=positions).latents


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["linear", "discrete_linear"])
def test_metamorphic_samples_are_bit_equal_in_any_batch_order_and_process(name, solver):
    whole = draw(name, solver, list(range(7)))
    order = [4, 0, 6, 2, 5, 1, 3]
    assert torch.equal(draw(name, solver, order), whole[order])
    for size in (1, 3):
        batches = [list(range(start, min(start + size, 7))) for start in range(0, 7, size)]
        assert torch.equal(torch.cat([draw(name, solver, batch) for batch in batches]), whole)
    for num_processes in (2, 3):
        for rank in range(num_processes):
            mine = list(range(rank, 7, num_processes))
            assert torch.equal(draw(name, solver, mine), whole[mine])
    assert not torch.equal(whole[0], whole[4])  # the same class at another position


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpmpp_2m_sde", "euler_maruyama"])
def test_metamorphic_every_step_of_every_sample_draws_its_own_noise(solver):
    """The noise is that of the seed, the sample's position and the step: given by hand it makes the same samples."""
    positions = [3, 0, 5]
    noise = normal(9, Purpose.START_NOISE, positions, SHAPE)
    step_noise = torch.stack([normal(9, Purpose.STEP_NOISE, positions, SHAPE, step=k) for k in range(6)])
    assert len(step_noise.flatten(2).unique(dim=0)) == 6
    sampling = SamplingConfig(**from_first_format({"solver": solver, "steps": 6, "eta": 0.6}))
    options = {"sampling": sampling, "noise": noise, "step_noise": step_noise}
    by_hand = sample(elementwise, process_of("linear"), Y[positions], SHAPE, **options).latents
    assert torch.equal(by_hand, draw("linear", solver, positions))


@pytest.mark.parametrize(
    "config", [FlowConfig(), FlowConfig(schedule="vp_linear", prediction="eps"), GaussianConfig()], ids=str
)
def test_metamorphic_losses_are_bit_equal_in_any_batch_order_and_process(config):
    process = create_process(config)

    def network(x, t, y):
        output = elementwise(x, t, y)
        return torch.cat([output, output], dim=1) if process.learn_sigma else output

    def losses(positions):
        noise, u = normal(1, Purpose.TRAIN_NOISE, positions, SHAPE), uniform(1, Purpose.TIMESTEP, positions)
        x_0 = normal(2, Purpose.LATENT_DRAW, positions, SHAPE)
        return process.losses(network, x_0, Y[positions], noise=noise, u=u).loss

    whole, order = losses(list(range(7))), [4, 0, 6, 2, 5, 1, 3]
    assert torch.equal(losses(order), whole[order])
    assert torch.equal(torch.cat([losses([0, 1]), losses([2, 3, 4, 5, 6])]), whole)
    for rank in range(3):
        mine = list(range(rank, 7, 3))
        assert torch.equal(losses(mine), whole[mine])


@pytest.mark.parametrize("patch", [1, 2, 3, 5])
@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize(("batch", "channels"), [(1, 1), (2, 3)])
def test_metamorphic_patchify_and_unpatchify_are_inverse(batch, channels, grid, patch):
    x = torch.arange(batch * channels * grid[0] * grid[1] * patch**2, dtype=torch.float64)
    x = x.reshape(batch, channels, grid[0] * patch, grid[1] * patch)
    tokens = patchify(x, patch)
    assert torch.equal(unpatchify(tokens, grid, patch), x)
    assert torch.equal(patchify(unpatchify(tokens, grid, patch), patch), tokens)
