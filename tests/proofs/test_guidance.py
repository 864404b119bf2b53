"""Proof 12: guidance. Two Gaussians as the branches give an affine guided velocity, which is probed as in proof 2."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from dit.sampling.config import SamplingConfig
from dit.sampling.grid import create_grid
from dit.sampling.sampler import sample
from tests.proofs.gaussian_data import GaussianData, assert_close, process_of
from tests.proofs.reference import PATHS

N, W = 16, 2.5
SHAPE = (2, 1, 1)
X = torch.tensor([[1.0, -2.0], [0.3, 0.7], [-1.0, 0.1]], dtype=torch.float64).reshape(3, 2, 1, 1)
Y = torch.tensor([0, 0, 0])
NULL = 5
CASES = [
    *(("linear", prediction) for prediction in ("velocity", "v", "x0")),
    *(("gvp", prediction) for prediction in ("velocity", "v", "x0")),
    *(("vp_linear", prediction) for prediction in ("eps", "v", "x0")),
    *(("vp_cosine", prediction) for prediction in ("v", "x0")),
    *(
        (name, None)
        for name in ("linear_noise_2", "edm", "discrete_linear", "discrete_cosine", "discrete_scaled_linear")
    ),
]


class TwoGaussians:
    """A network that knows N(0.5, 0.6^2) for every class and N(-0.2, 1.1^2) for the null class; it counts its rows."""

    num_classes, null_class = NULL, NULL

    def __init__(self, name: str, prediction: str | None = None):
        self.process = process_of(name, **({"prediction": prediction} if prediction else {}))
        self.conditional, self.unconditional = (
            GaussianData(PATHS[name], mean=mean, std=std) for mean, std in ((0.5, 0.6), (-0.2, 1.1))
        )
        self.outputs = [data.network(self.process) for data in (self.conditional, self.unconditional)]
        self.rows, self.null_rows = [], []

    def __call__(self, x, t, y):
        self.rows.append(len(x))
        self.null_rows.append(int((y == NULL).sum()))
        of_class, of_null = (output(x, t, y) for output in self.outputs)
        return torch.where((y == NULL).reshape(-1, 1, 1, 1), of_null, of_class)

    def velocity(self, x, t, scale):
        """Return the guided velocity u + w (c - u), in numpy."""
        c, u = (data.velocity(x, t) for data in (self.conditional, self.unconditional))
        return u + scale * (c - u)

    def euler(self, x, scale, times):
        """Return Euler's result of the guided velocity with w = scale(k, t)."""
        x = x.numpy()
        for k, (t, after) in enumerate(pairwise(times)):
            x = x + (after - t) * self.velocity(x, t, scale(k, t))
        return torch.tensor(x)


def run(model, *, solver="euler", steps=N, **options):
    # The times k / 16 are exact in the network's float32 time; steps of a discrete process are integers.
    sampling = SamplingConfig(solver=solver, steps=steps, grid="auto", guidance=W, **options)
    sampled = sample(model, model.process, Y, SHAPE, sampling=sampling, noise=X)
    assert sampled.latents.dtype == torch.float64
    return sampled, create_grid(model.process, sampling).t.numpy()


@pytest.mark.parametrize("calls", ["one", "two"])
@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_proof_12_two_gaussians_give_a_linear_guided_velocity(name, prediction, calls):
    """Guiding any output guides the velocity alike, for at one x_t each is an affine function of the other."""
    model = TwoGaussians(name, prediction)
    sampled, times = run(model, guidance_calls=calls)
    assert_close(sampled.latents, model.euler(X, lambda k, t: W, times))
    assert sampled.num_calls == 2 * N


@pytest.mark.parametrize("name", PATHS)
def test_proof_12_scale_one_is_the_conditional_output_bit_for_bit(name):
    model = TwoGaussians(name)
    sampling = SamplingConfig(solver="euler", steps=N, grid="auto")
    guided = sample(model, model.process, Y, SHAPE, sampling=sampling, noise=X)
    assert sum(model.null_rows) == 0
    plain = sample(model.outputs[0], model.process, Y, SHAPE, sampling=sampling, noise=X)
    assert torch.equal(guided.latents, plain.latents)
    assert guided.num_calls == N


@pytest.mark.parametrize("name", PATHS)
def test_proof_12_channels_that_are_not_guided_stay_conditional(name):
    model = TwoGaussians(name)
    sampled, times = run(model, guidance_channels=1)
    assert_close(sampled.latents[:, :1], model.euler(X, lambda k, t: W, times)[:, :1])
    assert_close(sampled.latents[:, 1:], model.euler(X, lambda k, t: 1.0, times)[:, 1:])


@pytest.mark.parametrize("calls", ["one", "two"])
@pytest.mark.parametrize("name", PATHS)
def test_proof_12_an_interval_skips_the_unconditional_call_outside(name, calls):
    """From t = 5/16 to 11/16, both included, the velocity is guided; elsewhere no row of the null class is computed."""
    model = TwoGaussians(name)
    low, high = 5 / 16, 11 / 16
    sampled, times = run(model, guidance_interval=[low, high], guidance_calls=calls)
    inside = (times[:-1] >= low) & (times[:-1] <= high)
    assert 0 < inside.sum() < N
    assert_close(sampled.latents, model.euler(X, lambda k, t: W if inside[k] else 1.0, times))
    assert sum(model.null_rows) == 3 * inside.sum()
    assert sum(model.rows) == 3 * (N + inside.sum())
    assert sampled.num_calls == N + inside.sum()


def test_proof_12_an_interval_of_steps():
    model = TwoGaussians("linear")
    sampled, times = run(model, guidance_steps=[3, 8])
    assert_close(sampled.latents, model.euler(X, lambda k, t: W if 3 <= k <= 8 else 1.0, times))
    assert (sampled.num_calls, sum(model.null_rows)) == (N + 6, 18)


@pytest.mark.parametrize("guided_by", ["call", "step"])
def test_proof_12_heuns_second_call_is_guided_by_its_own_time_or_by_the_steps_start(guided_by):
    model, low, high = TwoGaussians("linear"), 0.3, 0.7
    solver = {"name": "heun", "guided_by": guided_by, "ends_with": "data"}
    sampled, times = run(model, solver=solver, guidance_interval=[low, high])
    x, guided = X.numpy(), 0
    for t, after in pairwise(times):
        scales = [W if low <= time <= high else 1.0 for time in (t, t if guided_by == "step" else after)]
        v = model.velocity(x, t, scales[0])
        v_end = model.velocity(x + (after - t) * v, after, scales[1]) if after > 0 else v
        x, guided = x + (after - t) * (v + v_end) / 2, guided + scales.count(W)
    assert_close(sampled.latents, x)
    assert (sampled.num_calls, sum(model.null_rows)) == (2 * N - 1 + guided, 3 * guided)


@pytest.mark.parametrize("name", ["linear", "discrete_linear"])
@pytest.mark.parametrize("schedule", ["linear", "power_cosine"])
def test_proof_12_schedules_of_the_scale(name, schedule):
    """From 1 at the noise to w at the data: 1 + (w - 1) s, or 1 + (w - 1) (1 - cos(pi s^p)) / 2, with s = 1 - t.

    MDT counts the time of a step k as k / 1000, whichever of the steps are taken: at the last, k = 0, the scale is w.
    """
    model = TwoGaussians(name)
    power = {"guidance_power": 3.0} if schedule == "power_cosine" else {}
    sampled, times = run(model, guidance_schedule=schedule, **power)

    def scale(k, t):
        s = 1 - round(1000 * t - 1) / 1000 if name == "discrete_linear" else 1 - t
        return 1 + (W - 1) * (s if schedule == "linear" else (1 - math.cos(math.pi * s**3)) / 2)

    assert_close(sampled.latents, model.euler(X, scale, times))


@pytest.mark.parametrize("name", PATHS)
def test_proof_12_autoguidance_is_guided_by_the_weaker_network(name):
    """The weaker network is asked for the same class: labels are kept."""
    model = TwoGaussians(name)
    asked = []

    def weaker(x, t, y):
        asked.append(y)
        return model.outputs[1](x, t, y)

    sampling = SamplingConfig(solver="euler", steps=N, guidance=W)
    sampled = sample(model, model.process, Y, SHAPE, sampling=sampling, noise=X, weaker=weaker)
    times = create_grid(model.process, sampling).t.numpy()
    assert_close(sampled.latents, model.euler(X, lambda k, t: W, times))
    assert sum(model.null_rows) == 0
    assert all(torch.equal(y, Y) for y in asked)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_proof_12_rescale_brings_back_the_conditional_deviation(share):
    from dit.sampling.guidance import combine

    generator = torch.Generator().manual_seed(0)
    c, u = torch.randn(2, 3, 5, 4, 4, dtype=torch.float64, generator=generator)
    found = combine(c, u, scale=3.0, num_channels=4, rescale=share)
    plain = u[:, :4] + 3.0 * (c[:, :4] - u[:, :4])
    for sample_, guided, conditional in zip(found, plain, c, strict=True):
        ratio = float(np.std(conditional[:4].numpy(), ddof=1) / np.std(guided.numpy(), ddof=1))
        assert_close(sample_[:4], guided * (share * ratio + 1 - share))
        assert torch.equal(sample_[4:], conditional[4:])


@pytest.mark.parametrize(
    ("solver", "calls"), [("euler", 16), ("heun", 32), ("midpoint", 32), ("dpmpp_2m", 16), ("unipc", 16), ("ddim", 16)]
)
def test_proof_12_calls_are_counted(solver, calls):
    """A guided call counts as two; heun's and midpoint's second call of a step are guided by their own time."""
    model = TwoGaussians("linear")
    sampling = SamplingConfig(solver=solver, steps=N, guidance=W)
    sampled = sample(model, model.process, Y, SHAPE, sampling=sampling, noise=X)
    assert sampled.num_calls == 2 * calls == sum(model.rows) / 3
    interval = sampling.model_copy(update={"guidance_interval": [0.3, 0.7]})
    model = TwoGaussians("linear")
    sampled = sample(model, model.process, Y, SHAPE, sampling=interval, noise=X)
    assert sampled.num_calls == calls + sum(model.null_rows) / 3
    assert 0 < sum(model.null_rows) < 3 * calls
