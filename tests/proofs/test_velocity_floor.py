"""Proof 17: networks that predict the data, whose velocity is (x_t - x_0) / max(t, f).

Above the floor f it is the flow's. Below, a step from t to s is x_s = x_t - (t - s) / f (x_t - x_0), and the share
1 - t / f of the distance to the data stays in the sample at the last one.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dit.diffusion.config import AverageVelocityConfig
from dit.diffusion.create import create_process
from dit.models.imf.pixels import TIME_FLOOR, Pmf
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from tests.proofs.gaussian_data import GaussianData, assert_close, process_of, state
from tests.proofs.reference import PATHS
from tests.proofs.test_average_velocity import FLOAT32, Average

FLOOR = 0.05
X, Y = state(-2.0, -0.3, 0.0, 1.7), torch.zeros(4, dtype=torch.int64)
DATA = {"mean": 0.4, "std": 0.5}
STRAIGHT = ["linear", "linear_noise_2"]
ABOVE = [1.0, 0.8, 0.5, 0.25, 0.125, FLOOR]
BELOW = [0.5, 0.125, 0.04, 0.025, 0.01]


def draw(name: str, solver, times: list[float], **options):
    """Return the samples of the optimal network, from X at the first time."""
    process = process_of(name, **options)
    network = GaussianData(PATHS[name], **DATA).network(process)
    sampling = SamplingConfig(solver=solver, steps=len(times), grid={"name": "list", "times": times})
    return sample(network, process, Y, (1, 1, 1), sampling=sampling, noise=X).latents


@pytest.mark.parametrize("solver", ["euler", "heun", "ddim", "dpmpp_2m", "unipc", "euler_maruyama"])
@pytest.mark.parametrize("name", STRAIGHT)
def test_proof_17_above_the_floor_every_solver_samples_as_of_a_velocity(name, solver):
    """And ends in the predicted data, as published; for heun that is its option elsewhere."""
    of_velocity = {"name": "heun", "ends_with": "data"} if solver == "heun" else solver
    expected = draw(name, of_velocity, ABOVE)
    assert_close(draw(name, solver, ABOVE, prediction="x0", velocity_floor=FLOOR), expected)


@pytest.mark.parametrize("solver", ["euler", "ddim"])
@pytest.mark.parametrize("name", STRAIGHT)
def test_proof_17_below_the_floor_a_step_is_shorter(name, solver):
    data, x = GaussianData(PATHS[name], **DATA), X.numpy()
    for t, s in pairwise([*BELOW, 0.0]):
        x_0, _ = data.data_and_noise(x, t)
        x = x - (t - s) / max(t, FLOOR) * (x - x_0)
    assert_close(draw(name, solver, BELOW, prediction="x0", velocity_floor=FLOOR), x)


@pytest.mark.parametrize("name", STRAIGHT)
def test_proof_17_heun_below_the_floor_takes_the_mean_of_two_such_velocities(name):
    data, x = GaussianData(PATHS[name], **DATA), X.numpy()

    def velocity(x, t):
        return (x - data.data_and_noise(x, t)[0]) / max(t, FLOOR)

    for t, s in pairwise([*BELOW, 0.0]):
        v = velocity(x, t)
        x = x - (t - s) * (v if s == 0 else (v + velocity(x - (t - s) * v, s)) / 2)
    assert_close(draw(name, "heun", BELOW, prediction="x0", velocity_floor=FLOOR), x)


@pytest.mark.parametrize("steps", [1, 4, 20, 40])
def test_proof_17_an_average_velocity_read_off_the_image_at_its_end(steps):
    """pMF's network predicts x_u = x_t - t u, exact in 20 steps; of 40 the last goes half of the way to the data."""

    class OfImage(Average):
        def __call__(self, x, t, y, **told):
            u = super().__call__(x, t, y, **told)
            return Pmf._read(self, x - t.to(x).reshape(-1, 1, 1, 1) * u, x, t)

    network, process = OfImage("linear", "h"), create_process(AverageVelocityConfig(condition="h"))
    sampling = SamplingConfig(solver="euler", steps=steps)
    latents = sample(network, process, Y, (1, 1, 1), sampling=sampling, noise=X).latents
    last = 1 / steps
    x = network.data.flow(X, 1.0, last)
    share = last / np.maximum(last, TIME_FLOOR)
    assert_close(latents, (1 - share) * x + share * network.data.flow(x, last, 0.0), FLOAT32)
