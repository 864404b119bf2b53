import pytest
import torch

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError, DitError
from dit.sampling.config import LikelihoodConfig, SamplingConfig
from dit.sampling.likelihood import Flow, nll_grid, ode_nll
from dit.sampling.sampler import Denoiser, guidance_of
from dit.sampling.solvers.ode import velocity
from tests.goldens import load_network

FLOW = create_process(FlowConfig(learn_sigma=True))
GAUSSIAN = create_process(GaussianConfig())
Y = torch.tensor([0, 3, 6])


@pytest.fixture(scope="module")
def network():
    return load_network("dit_p2_sigma")[0]


@pytest.fixture
def latents():
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def mixing(x, t, y):
    """A smooth network that mixes pixels, channels, times and classes."""
    mixed = x.flip(-1) + 0.5 * x.roll(1, 1) + 0.1 * (y + t / 1000)[:, None, None, None]
    return torch.cat([torch.tanh(mixed), mixed], dim=1)


@pytest.mark.parametrize("process", [FLOW, GAUSSIAN], ids=["flow", "gaussian"])
def test_a_likelihood_depends_on_seed_and_position_alone(latents, process):
    likelihood = LikelihoodConfig(steps=4, num_probes=2)
    whole = ode_nll(mixing, process, latents, Y, likelihood=likelihood, seed=5)
    assert whole.nats_per_dim.shape == (2, 3)
    assert (whole.num_calls, whole.num_backward) == (8, 16)
    part = ode_nll(mixing, process, latents[[2]], Y[[2]], likelihood=likelihood, seed=5, positions=[2])
    torch.testing.assert_close(part.nats_per_dim, whole.nats_per_dim[:, [2]], rtol=1e-5, atol=1e-6)
    other = ode_nll(mixing, process, latents, Y, likelihood=likelihood, seed=6)
    assert not torch.isclose(other.nats_per_dim, whole.nats_per_dim).any()
    assert not torch.isclose(whole.nats_per_dim[0], whole.nats_per_dim[1]).any()


def test_the_divergence_of_a_network_is_the_trace_of_its_jacobian(network, latents):
    """Summed over one probe per pixel, the unit vectors, Hutchinson's estimate is the trace itself."""
    units = torch.eye(256).reshape(256, 1, 4, 8, 8)
    grid = nll_grid(FLOW, LikelihoodConfig())
    denoise = Denoiser(guidance_of(network, SamplingConfig(), grid, 4), FLOW, Y[:1])
    _, parts = Flow(denoise, grid, units)(latents[:1], grid.t[40])

    def v(x):
        return velocity(denoise(x, grid.t[40]), FLOW.schedule, grid.t[40])

    jacobian = torch.autograd.functional.jacobian(v, latents[:1]).reshape(256, 256)
    torch.testing.assert_close(parts.sum().float(), jacobian.trace(), rtol=1e-4, atol=1e-4)
    assert (jacobian - jacobian.diag().diag()).abs().max() > 1e-3


def test_no_gradients_are_left_in_the_network(latents):
    network = load_network("dit_p2_sigma")[0].requires_grad_(True)
    ode_nll(network, FLOW, latents, Y, likelihood=LikelihoodConfig(steps=2))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_progress_reaches_the_end(latents):
    seen = []
    for options in ({"steps": 4}, {"solver": "dopri5", "tolerance": 1e-2}):
        seen.clear()
        ode_nll(mixing, FLOW, latents[:1], Y[:1], likelihood=LikelihoodConfig(**options), progress=seen.append)
        assert max(seen) == 1
        assert min(seen) >= 0


@pytest.mark.parametrize(
    ("process", "options", "message"),
    [
        (GAUSSIAN, {"t_end": 0.0}, r"likelihood\.t_end: expected a time at which the flow has a velocity, found 0"),
        (FLOW, {"t_end": 0.5, "t_start": 0.5}, r"likelihood\.t_end: expected less than t_start 0.5, found 0.5"),
    ],
)
def test_ends_that_make_no_sense_are_refused(process, options, message):
    with pytest.raises(ConfigError, match=message):
        nll_grid(process, LikelihoodConfig(**options))


@pytest.mark.parametrize(
    ("config", "t_end"),
    [
        (FlowConfig(), 0.0),
        (FlowConfig(prediction="v"), 0.0),
        (FlowConfig(prediction="x0"), 0.001),
        (FlowConfig(schedule="gvp"), 0.0),
        (FlowConfig(schedule="vp_linear", prediction="eps"), 0.001),
        (GaussianConfig(), 0.001),
        (GaussianConfig(num_steps=250), 0.004),
    ],
)
def test_the_flow_ends_at_the_first_time_of_which_the_network_knows_something(config, t_end):
    grid = nll_grid(create_process(config), LikelihoodConfig())
    assert (float(grid.t[0]), float(grid.t[-1])) == (t_end, 1)
    assert grid.has_velocity[[0, -1]].all()


@pytest.mark.parametrize("solver", ["heun", "dopri5"])
def test_damaged_weights_are_an_error_rather_than_a_number(latents, solver):
    with pytest.raises(DitError, match="not finite"):
        ode_nll(
            lambda x, t, y: x * torch.nan,
            create_process(FlowConfig()),
            latents,
            Y,
            likelihood=LikelihoodConfig(solver=solver),
        )
