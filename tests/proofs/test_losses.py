"""Proof 11: what the optimal network leaves over is the floor of its loss, for every prediction and weighting."""

import numpy as np
import pytest
import torch

from dit.diffusion.config import EdmWeighting, MinSnrWeighting, SigmoidWeighting, UniformWeighting, VelocityWeighting
from dit.diffusion.timesteps import UniformLaw
from tests.proofs.gaussian_data import SIGMA_DATA, GaussianData, at_nodes, coefficients, exact_times, process_of
from tests.proofs.reference import PATHS

MEAN, STD = 0.6, 0.7
WEIGHTINGS = [
    UniformWeighting(),
    VelocityWeighting(),
    MinSnrWeighting(gamma=3.0),
    SigmoidWeighting(bias=1.0),
    EdmWeighting(sigma_data=0.8),
]
CASES = [
    *(("linear", prediction) for prediction in ("velocity", "v", "x0")),
    *(("gvp", prediction) for prediction in ("velocity", "v", "x0")),
    *(("vp_linear", prediction) for prediction in ("eps", "v", "x0", "score")),
    *(("vp_cosine", prediction) for prediction in ("v", "x0")),
    ("discrete_linear", "eps"),
    ("discrete_cosine", "eps"),
    ("discrete_scaled_linear", "eps"),
    ("linear_noise_2", "velocity"),
    ("linear", "floored x0"),
    ("edm", "preconditioned"),
]
# EDM's weight is that of its own output; below its floor JiT's output is no x_0, though it is trained to be.
ONLY = {"preconditioned": ["uniform"], "floored x0": ["uniform", "velocity"]}
FLOOR = 0.1
COMBINATIONS = [
    (name, prediction, weighting)
    for name, prediction in CASES
    for weighting in WEIGHTINGS
    if (prediction, weighting.name) != ("score", "uniform")  # its expected loss over all times is infinite
    and (prediction not in ONLY or weighting.name in ONLY[prediction])
]


def setting(name, prediction, weighting):
    """Return a process, its data, numbers u from which its times are made, and those times."""
    data = GaussianData(PATHS[name], MEAN, STD)
    if name.startswith("discrete"):
        u = (np.arange(20, 1000, 49) + 0.5) / 1000
        return process_of(name, weighting=weighting), data, u, (np.floor(u * 1000) + 1) / 1000
    if name == "edm":
        process = process_of(name)
        process.time_law = UniformLaw()  # the noise levels of its own are no times that a network reads exactly
    elif prediction == "floored x0":
        process = process_of(name, prediction="x0", velocity_floor=FLOOR, weighting=weighting)
    else:
        process = process_of(name, prediction=prediction, weighting=weighting)
    return process, data, exact_times(32), exact_times(32)


def floor(path, prediction, weighting, t):
    """Return the least loss at times t: a weight, by its own definition, times the variance that x_t leaves over.

    s^2 sigma^2 / V of x_0, s^2 alpha^2 / V of eps and, for the output itself, s^2 (a sigma - b alpha)^2 / V.
    """
    alpha, sigma, remaining = path.alpha(t), path.sigma(t), STD**2 / path.variance(t, STD)
    if prediction == "floored x0":  # its velocity is (x_t - x_0) / max(t, FLOOR)
        weight = 1 if weighting.name == "uniform" else 1 / np.maximum(t, FLOOR) ** 2
        return weight * floor(path, "x0", UniformWeighting(), t)
    if isinstance(weighting, UniformWeighting):
        a, b = coefficients(path, prediction, t)
        return (a * sigma - b * alpha) ** 2 * remaining
    if isinstance(weighting, VelocityWeighting):
        return floor(path, "velocity", UniformWeighting(), t)
    if isinstance(weighting, MinSnrWeighting):
        return np.minimum(alpha**2 / sigma**2, 3.0) * sigma**2 * remaining
    if isinstance(weighting, SigmoidWeighting):
        return alpha**2 * remaining / (1 + np.exp(np.log(alpha**2 / sigma**2) - 1.0))
    noise = sigma / alpha  # EDM's noise level, with its weight of the error of x_0
    return (noise**2 + 0.8**2) / (noise * 0.8) ** 2 * sigma**2 * remaining


@pytest.mark.parametrize(
    ("name", "prediction", "weighting"), COMBINATIONS, ids=lambda value: getattr(value, "name", value)
)
def test_proof_11_the_expected_loss_is_least_at_the_optimal_network(name, prediction, weighting):
    """Over the Gauss-Hermite nodes the loss is its floor to rounding, and no change of the network lowers it."""
    process, data, u, t = setting(name, prediction, weighting)
    x_0, noise, weights = at_nodes(len(u))
    change = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimal = data.network(process)

    def network(x, time, y):
        return optimal(x, time, y) + change[0] + change[1] * x

    u = torch.tensor(u).repeat_interleave(9)
    losses = process.losses(network, MEAN + STD * x_0, u, noise=noise, u=u)
    assert torch.equal(losses.t.reshape(-1, 9)[:, 0], torch.from_numpy(t))
    loss = losses.loss.reshape(-1, 9) @ weights
    expected = torch.tensor(floor(PATHS[name], prediction, weighting, t))
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-11, atol=1e-13)
    for one in loss / expected:
        (slope,) = torch.autograd.grad(one, change, retain_graph=True)
        assert slope.abs().max() < 1e-9


def test_proof_11_the_floor_of_the_square_error_is_the_same_beside_a_learned_variance():
    process = process_of("discrete_linear", learn_sigma=True)
    data = GaussianData(PATHS["discrete_linear"], MEAN, STD)
    x_0, noise, weights = at_nodes(20)
    u = ((torch.arange(20, dtype=torch.float64) * 50 + 3.5) / 1000).repeat_interleave(9)
    optimal = data.network(process)

    def network(x, time, y):
        eps = optimal(x, time, y)
        return torch.cat([eps, torch.ones_like(eps)], dim=1)

    losses = process.losses(network, MEAN + STD * x_0, u, noise=noise, u=u)
    mean = losses.terms["mse"].reshape(20, 9) @ weights
    times = losses.t.reshape(20, 9)[:, 0].numpy()
    expected = floor(PATHS["discrete_linear"], "eps", UniformWeighting(), times)
    torch.testing.assert_close(mean, torch.tensor(expected), rtol=1e-11, atol=0)
    assert torch.equal(losses.loss, losses.terms["mse"] + losses.terms["vb"])


def test_proof_11_named_floors():
    """eps: abar s^2 / (abar s^2 + 1 - abar); velocity on the straight path: s^2 / V."""
    for name, prediction in (("discrete_linear", "eps"), ("linear", "velocity")):
        _, _, _, t = setting(name, prediction, UniformWeighting())
        alpha, variance = PATHS[name].alpha(t), PATHS[name].variance(t, STD)
        expected = STD**2 / variance * (alpha**2 if prediction == "eps" else 1)
        np.testing.assert_allclose(floor(PATHS[name], prediction, UniformWeighting(), t), expected, rtol=1e-12)


def test_proof_11_edms_weight_makes_the_floor_one_for_data_of_its_deviation():
    """And so does EDM's own output."""
    for name, prediction in CASES:
        if prediction == "floored x0":
            continue
        process, _, u, t = setting(name, prediction, EdmWeighting(sigma_data=SIGMA_DATA))
        network = GaussianData(PATHS[name], MEAN, SIGMA_DATA).network(process)
        x_0, noise, weights = at_nodes(len(u))
        u = torch.tensor(u).repeat_interleave(9)
        losses = process.losses(network, MEAN + SIGMA_DATA * x_0, u, noise=noise, u=u)
        mean = losses.loss.reshape(len(t), 9) @ weights
        torch.testing.assert_close(mean, torch.ones(len(t), dtype=torch.float64), rtol=1e-11, atol=0)
