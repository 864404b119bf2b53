"""Proof 13: eight data points, whose optimal network is a softmax over the points of a class."""

import math

import pytest
import torch

from dit.sampling.config import SamplingConfig, from_first_format
from dit.sampling.sampler import sample
from tests.proofs.gaussian_data import process_of, time_of

ANGLES = torch.arange(8, dtype=torch.float64) * math.pi / 4
POINTS = 1.5 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)  # (8, 2) on a circle, neighbours 1.15 apart
CLASS_OF_POINT = torch.arange(8) % 2
NULL = 2
SOLVERS = {
    "ddpm": {},
    "ddim": {},
    "ddim-eta": {"solver": "ddim", "eta": 0.5},
    "euler": {},
    "heun": {},
    "midpoint": {},
    "dpmpp_2m": {},
    "dpmpp_2m_sde": {},
    "unipc": {},
    "euler_maruyama": {},
    "dopri5": {"steps": 2, "grid": "list", "times": [0.999, 1e-6]},
}


class Softmax:
    """E[x_0 | x_t, y] over the points of class y, or over all for the null class, as the process's prediction."""

    num_classes, null_class = 2, NULL

    def __init__(self, name: str):
        self.process = process_of(name)

    def __call__(self, x, model_time, y):
        t = time_of(self.process, model_time)
        alpha, sigma = (f(t)[:, None] for f in (self.process.schedule.alpha, self.process.schedule.sigma))  # (B, 1)
        flat = x.flatten(1)  # (B, 2)
        squares = (flat[:, None] - alpha[..., None] * POINTS).square().sum(-1)  # (B, 8)
        possible = (y[:, None] == CLASS_OF_POINT) | (y == NULL)[:, None]
        weights = (-squares / (2 * sigma**2).clamp(min=1e-300)).masked_fill(~possible, -torch.inf).softmax(1)
        x_0 = weights @ POINTS  # (B, 2)
        # At t=0 nothing is known of the noise.
        eps = torch.where(sigma > 0, (flat - alpha * x_0) / sigma.clamp(min=1e-300), 0)
        prediction = self.process.prediction
        return prediction.from_data_and_noise(self.process.schedule, t, x_0, eps).reshape(x.shape)


# A guided velocity belongs to no noising process: with noise, or extrapolated from steps before, points are missed.
GUIDED = ["ddim", "euler", "heun", "midpoint", "dpmpp_2m"]


@pytest.mark.parametrize(("solver", "guidance"), [*((s, 1.0) for s in SOLVERS), *((s, 3.0) for s in GUIDED)])
@pytest.mark.parametrize("name", ["linear", "vp_cosine", "discrete_linear"])  # proofs 2 to 6 take every path
def test_proof_13_samples_land_on_points_of_their_own_class(name, solver, guidance):
    y = torch.arange(64) % 2
    # Where sigma grows like a square root of t, first-order steps to t=0 leave half of the last sigma.
    options = {"solver": solver, "steps": 48, "grid": "log_snr", "t_start": 0.999, "t_end": 1e-7} | SOLVERS[solver]
    noise = torch.randn(64, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = Softmax(name)
    sampling = SamplingConfig(**from_first_format(options), guidance=guidance)
    latents = sample(model, model.process, y, (2, 1, 1), sampling=sampling, noise=noise).latents.flatten(1)
    distances = (latents[:, None] - POINTS).square().sum(-1).sqrt()
    distance, nearest = distances.min(1)
    assert distance.max() < 1e-3
    assert torch.equal(CLASS_OF_POINT[nearest], y)
    if guidance == 1:
        assert len(nearest.unique()) == 8  # every point of both classes is found
