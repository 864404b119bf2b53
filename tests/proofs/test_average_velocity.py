"""Proof 16: average velocities, of Gaussian data u = (x_t - x_r) / (t - r) with x_r on the exact flow."""

import numpy as np
import pytest
import torch

from dit.diffusion.config import AverageVelocityConfig, FlowConfig, UniformTime
from dit.diffusion.create import create_process
from dit.errors import ConfigError
from dit.sampling.config import LikelihoodConfig, SamplingConfig
from dit.sampling.inversion import invert
from dit.sampling.likelihood import ode_nll
from dit.sampling.sampler import sample
from tests.proofs.gaussian_data import GaussianData, assert_close, process_of, state
from tests.proofs.reference import PATHS

X, Y = state(-2.0, -0.3, 0.0, 1.7), torch.zeros(4, dtype=torch.int64)
DATA = {"mean": 0.4, "std": 0.5}
NOISES = {"linear": 1.0, "linear_noise_2": 2.0}
FLOAT32 = 1e-6
"""Tolerance where the network's times, or the state, are rounded to float32."""


class Average:
    """The exact average velocity of Gaussian data from t back to r, which the process tells by r or by h = t - r."""

    def __init__(self, name: str = "linear", *condition_names: str):
        self.data, self.condition_names = GaussianData(PATHS[name], **DATA), condition_names
        self.times, self.told = [], []

    def __call__(self, x, t, y, **told):
        assert set(told) == set(self.condition_names)
        self.times.append(t.double())
        self.told.append({name: value.double() for name, value in told.items()})
        until = told["r"].double() if "r" in told else t.double() - told["h"].double()
        rows = zip(x, t.tolist(), until.tolist(), strict=True)
        return torch.stack([self.between(x, t, r) for x, t, r in rows])

    def between(self, x, t: float, r: float):
        return self.data.velocity(x, t) if t == r else (x - self.data.flow(x, t, r)) / (t - r)


def draw(network: Average, name: str = "linear", steps: int = 4, solver: str = "euler", x=X, **options):
    condition = "h" if "h" in network.condition_names else "r"
    process = create_process(AverageVelocityConfig(condition=condition, noise_scale=NOISES[name]))
    sampling = SamplingConfig(solver=solver, steps=steps, **options)
    return sample(network, process, Y[: len(x)], (1, 1, 1), sampling=sampling, noise=x)


@pytest.mark.parametrize("steps", [1, 2, 16, 3, 7])
@pytest.mark.parametrize("condition", ["r", "h"])
@pytest.mark.parametrize("name", NOISES)
def test_proof_16_any_number_of_steps_lands_on_the_exact_flow(name, condition, steps):
    network = Average(name, condition)
    sampled = draw(network, name, steps)
    assert sampled.num_calls == steps
    assert_close(sampled.latents, network.data.flow(X, 1.0, 0.0), 1e-12 if steps in (1, 2, 16) else FLOAT32)
    times = np.linspace(1, 0, steps + 1)
    told = {"r": times[1:], "h": times[:-1] - times[1:]}[condition]
    for k in range(steps):
        assert_close(network.times[k], times[k], FLOAT32)
        assert_close(network.told[k][condition], told[k], FLOAT32)


@pytest.mark.parametrize("grid", [{"name": "shifted", "shift": 3.0}, {"name": "list", "times": [1.0, 0.3, 0.2, 0.01]}])
def test_proof_16_any_grid_lands_on_the_exact_flow(grid):
    network = Average("linear", "h")
    assert_close(draw(network, grid=grid).latents, network.data.flow(X, 1.0, 0.0), FLOAT32)


@pytest.mark.parametrize("solver", ["heun", "midpoint", "ddim", "dpmpp_2m", "unipc", "euler_maruyama"])
def test_proof_16_solvers_that_do_not_cross_a_step_at_once_ask_for_the_velocity_itself(solver):
    """At r = t the average is the velocity, so that they sample as of a flow."""
    network = Average("linear", "r")
    sampled = draw(network, solver=solver)
    assert all(torch.equal(told["r"], t) for told, t in zip(network.told, network.times, strict=True))
    flow = process_of("linear")
    sampling = SamplingConfig(solver=solver, steps=4)
    expected = sample(network.data.network(flow), flow, Y, (1, 1, 1), sampling=sampling, noise=X)
    assert_close(sampled.latents, expected.latents)


@pytest.mark.parametrize(
    ("names", "interval"),
    [
        (("guidance", "h"), None),
        (("h", "guidance", "t_min", "t_max"), None),
        (("h", "guidance", "t_min", "t_max"), [0.25, 0.75]),
    ],
)
def test_proof_16_guidance_is_told_to_a_network_that_was_trained_with_it(names, interval):
    """One call a step on all of the path, whatever the interval: acting on it is the network's own affair."""
    network = Average("linear", *names)
    sampled = draw(network, guidance=2.5, guidance_interval=interval)
    assert_close(sampled.latents, network.data.flow(X, 1.0, 0.0))
    assert sampled.num_calls == 4
    low, high = interval or [0.0, 1.0]
    expected = {"h": 0.25, "guidance": 2.5, "t_min": low, "t_max": high}
    for told in network.told:
        for name in names:
            assert torch.equal(told[name], torch.full((4,), expected[name], dtype=torch.float64))


def test_proof_16_what_a_prepared_network_is_told_beforehand_is_what_it_would_be_told():
    class Prepared(Average):
        def prepare(self, t_grid, y, **told):
            told = {name: values[:, None].expand(-1, len(y)) for name, values in told.items()}
            return lambda x, i, rows: self(
                x, t_grid[i].expand(len(x)), y, **{name: values[i] for name, values in told.items()}
            )

    names = ("h", "guidance", "t_min", "t_max")
    prepared, network = Prepared("linear", *names), Average("linear", *names)
    options = {"guidance": 2.5, "guidance_interval": [0.25, 0.75]}
    assert torch.equal(draw(prepared, **options).latents, draw(network, **options).latents)
    for found, expected in zip(prepared.told, network.told, strict=True):
        assert all(torch.equal(found[name], expected[name]) for name in names)


def test_proof_16_what_was_trained_with_its_guidance_takes_no_other():
    with pytest.raises(ConfigError, match=r"sampling\.guidance: expected 1, for this network was trained with its"):
        draw(Average("linear", "r"), guidance=2.0)
    with pytest.raises(ConfigError, match="guide: expected none"):
        sample(Average("linear", "r"), process_of("linear"), Y, (1, 1, 1), sampling=SamplingConfig(), weaker=Average())


@pytest.mark.parametrize("condition", ["r", "h"])
def test_proof_16_back_to_the_noise_and_the_likelihood_go_by_the_velocity_itself(condition):
    """A call at one time stands for no step there, so the network is asked at r = t, as one of a flow is."""
    flow, process = process_of("linear"), create_process(AverageVelocityConfig(condition=condition))
    network, sampling = Average("linear", condition), SamplingConfig(solver="euler", steps=8)
    of_flow = network.data.network(flow)
    found = invert(network, process, Y, X, sampling=sampling).latents
    torch.testing.assert_close(found, invert(of_flow, flow, Y, X, sampling=sampling).latents, rtol=0, atol=FLOAT32)
    likelihood = LikelihoodConfig(steps=8)
    nats = ode_nll(network, process, X, Y, likelihood=likelihood).nats_per_dim
    assert_close(nats, ode_nll(of_flow, flow, X, Y, likelihood=likelihood).nats_per_dim)
    for told, t in zip(network.told, network.times, strict=True):
        assert torch.equal(told[condition], t if condition == "r" else torch.zeros_like(t))


@pytest.mark.parametrize("condition", ["r", "h"])
def test_proof_16_the_plain_loss_is_that_of_the_velocity(condition):
    """It is taken at r = t: training to average over steps needs the derivative of the network."""
    config = AverageVelocityConfig(condition=condition, time_law=UniformTime(), noise_scale=2.0)
    network, u = Average("linear_noise_2", condition), torch.tensor([0.125, 0.25, 0.5, 0.875], dtype=torch.float64)
    flow = create_process(FlowConfig(noise_scale=2.0))
    losses = create_process(config).losses(network, X, Y, noise=X.flip(0), u=u)
    expected = flow.losses(network.data.network(flow), X, Y, noise=X.flip(0), u=u)
    assert_close(losses.loss, expected.loss)
    assert torch.equal(losses.t, u)
