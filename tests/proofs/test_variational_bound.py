"""Proofs 7 to 9: the posterior, the variational bound and its parts."""

import math

import numpy as np
import pytest
import torch

from dit.diffusion.gaussian import discretised_log_likelihood, normal_kl
from dit.diffusion.posterior import posterior
from dit.sampling.bound import bound_term, discretised_term
from dit.sampling.config import SamplingConfig
from dit.sampling.grid import create_grid
from dit.sampling.solvers.ancestral import posterior_of_step
from tests.proofs.gaussian_data import GaussianData, assert_close, at_nodes, process_of
from tests.proofs.reference import PATHS, cosine_abar, discrete


@pytest.mark.parametrize("name", PATHS)
def test_proof_07_posterior_of_any_two_times(name):
    """q(x_s | x_t, x_0), averaged over x_t, is q(x_s | x_0): in its mean and in its variance; and by Bayes' rule."""
    s, t = (grid.flatten() for grid in np.meshgrid(np.linspace(0.02, 0.9, 12), np.linspace(0.03, 0.98, 11)))
    s, t = s[s < t], t[s < t]
    path, schedule = PATHS[name], process_of(name).schedule
    times = torch.tensor(t), torch.tensor(s)
    q = posterior(*(f(time) for time in times for f in (schedule.alpha, schedule.sigma)))
    assert_close(q.of_x_0.numpy() + q.of_x_t.numpy() * path.alpha(t), path.alpha(s))
    assert_close(q.of_x_t.numpy() ** 2 * path.noise_variance(t) + q.variance.numpy(), path.noise_variance(s))
    ratio = path.alpha(t) / path.alpha(s)
    added = path.noise_variance(t) - ratio**2 * path.noise_variance(s)
    variance = 1 / (1 / path.noise_variance(s) + ratio**2 / added)
    assert_close(q.beta, added)
    assert_close(q.variance, variance, 1e-11)
    assert_close(q.of_x_0, variance * path.alpha(s) / path.noise_variance(s), 1e-11)
    assert_close(q.of_x_t, variance * ratio / added, 1e-11)


@pytest.mark.parametrize("betas", ["linear", "cosine", "scaled_linear"])
def test_proof_07_posterior_tables(betas):
    """c1 + c2 sqrt(abar_t) = sqrt(abar_{t-1}) and c2^2 (1 - abar_t) + beta~_t = 1 - abar_{t-1}, at every step."""
    process = process_of(f"discrete_{betas}")
    abar = PATHS[f"discrete_{betas}"].alpha((np.arange(1000) + 1) / 1000) ** 2
    before, q = np.array([1.0, *abar[:-1]]), process.posterior
    assert_close(q.of_x_0.numpy() + q.of_x_t.numpy() * np.sqrt(abar), np.sqrt(before))
    assert_close(q.of_x_t.numpy() ** 2 * (1 - abar) + q.variance.numpy(), 1 - before)
    assert_close(q.beta, 1 - abar / before)
    assert_close(process.log_betas, np.log(1 - abar / before))


@pytest.mark.parametrize("grid", ["respaced", "respaced_ddim"])
@pytest.mark.parametrize("betas", ["linear", "cosine", "scaled_linear"])
def test_proof_07_respaced_tables_are_rebuilt_from_the_kept_steps(betas, grid):
    """beta'_i = 1 - abar[k_i] / abar[k_{i-1}], with abar before the first = 1."""
    name = f"discrete_{betas}"
    kept = {"respaced": [round(i * 999 / 9) for i in range(10)], "respaced_ddim": list(range(0, 1000, 100))}[grid]
    times = create_grid(process_of(name), SamplingConfig(solver="ddpm", steps=10, grid=grid))
    abar = PATHS[name].alpha((np.array(kept) + 1) / 1000) ** 2
    expected = 1 - abar / np.array([1.0, *abar[:-1]])
    assert_close(torch.stack([posterior_of_step(times, k).beta for k in range(10)]), expected[::-1].copy())


@pytest.mark.parametrize("learn_sigma", [True, False], ids=["learned", "fixed"])
@pytest.mark.parametrize(
    ("betas", "num_steps"),
    [
        ("linear", 21),
        ("linear", 100),
        ("linear", 1000),
        ("cosine", 2),
        ("cosine", 10),
        ("cosine", 1000),
        ("scaled_linear", 1000),
    ],
)
def test_proof_08_the_bound_telescopes_to_the_entropy(betas, num_steps, learn_sigma):
    """Data N(0, 1) and reverse variance beta_t make p the exact reversal: the bound is the entropy, 1.4189385 nats.

    Expectations are exact: every term is a quadratic form in x_0 and the noise, taken at 3 x 3 Gauss-Hermite nodes.
    """
    process = process_of(f"discrete_{betas}", num_steps=num_steps, learn_sigma=learn_sigma)
    prior, terms = expected_bound(process, GaussianData(path_of(betas, num_steps)))
    assert abs(float(prior + terms.sum()) - 0.5 * math.log(2 * math.pi * math.e)) < 1e-9
    assert (terms[1:] >= -1e-12).all()


def test_proof_08_the_bound_is_above_the_entropy_for_other_data():
    """Data of another variance leave a gap, which shrinks with the number of steps."""
    gaps = []
    for num_steps in (50, 500):
        data = GaussianData(path_of("linear", num_steps), mean=0.3, std=0.5)
        prior, terms = expected_bound(process_of("discrete_linear", num_steps=num_steps), data)
        gaps.append(float(prior + terms.sum()) - 0.5 * math.log(2 * math.pi * math.e * 0.25))
    assert gaps[0] > gaps[1] > 0
    assert gaps[1] < 0.03


def expected_bound(process, data):
    """Return the expected prior () and terms (N,) of the optimal network with reverse variance beta_t."""
    num_steps = process.schedule.num_steps
    step = torch.arange(num_steps).repeat_interleave(9)
    x_0, noise, weights = at_nodes(num_steps)
    x_0 = data.mean + data.std * x_0
    t = process.schedule.time_of_step(step)
    x_t = process.corrupt(x_0, noise, t)
    output = data.output("eps", x_t, t.numpy())
    if process.learn_sigma:
        output = torch.cat([output, torch.ones_like(output)], dim=1)  # +1 is the upper bound, beta_t
    terms = bound_term(process, output, x_0, x_t, step, variance="auto" if process.learn_sigma else "upper")
    prior = process.prior_bits_per_dim(x_0[:9]) * math.log(2)
    return weights @ prior, terms.reshape(num_steps, 9) @ weights


@pytest.mark.parametrize("step", [0, 1, 500, 999])
def test_proof_08_terms_are_those_of_the_training_loss(step):
    """In bits, and at step 0 with the discretised likelihood in place of the density."""
    process = process_of("discrete_linear", learn_sigma=True)
    generator = torch.Generator().manual_seed(0)
    x_0, x_t = torch.randn(2, 5, 3, 2, 2, dtype=torch.float64, generator=generator)
    output = torch.randn(5, 6, 2, 2, dtype=torch.float64, generator=generator)
    steps = torch.full((5,), step)
    expected = process.variational_bound(output, x_0, x_t, steps) * math.log(2)
    actual = bound_term(process, output, x_0, x_t, steps) if step else discretised_term(process, output, x_0, x_t)
    assert_close(actual, expected)


def test_proof_09_kl_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean_1, mean_2, log_1, log_2 = torch.randn(4, 1000, dtype=torch.float64, generator=generator)
    first = torch.distributions.Normal(mean_1, (0.5 * log_1).exp())
    second = torch.distributions.Normal(mean_2, (0.5 * log_2).exp())
    assert_close(normal_kl(mean_1, log_1, mean_2, log_2), torch.distributions.kl_divergence(first, second))


def test_proof_09_prior_is_the_kl_to_pure_noise():
    process = process_of("discrete_linear")
    x_0 = torch.linspace(-3, 3, 8, dtype=torch.float64).reshape(2, 1, 2, 2)
    alpha, sigma = PATHS["discrete_linear"].alpha(1.0), PATHS["discrete_linear"].sigma(1.0)
    noised = torch.distributions.Normal(alpha * x_0, torch.full_like(x_0, sigma))
    expected = torch.distributions.kl_divergence(noised, torch.distributions.Normal(0.0, 1.0)).flatten(1).mean(1)
    assert_close(process.prior_bits_per_dim(x_0) * math.log(2), expected)


@pytest.mark.parametrize("scale", [0.004, 0.05, 0.5, 2.0])
@pytest.mark.parametrize("mean", [-1.2, -0.9, 0.0, 0.301, 1.0])
def test_proof_09_the_likelihood_bins_sum_to_one(mean, scale):
    bins = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_scale = torch.tensor(math.log(scale), dtype=torch.float64)
    probability = discretised_log_likelihood(bins, torch.tensor(mean, dtype=torch.float64), log_scale).exp()
    assert abs(float(probability.sum()) - 1) < 1e-6


def test_proof_09_a_likelihood_bin_is_the_normal_mass_within_1_over_255():
    """The tanh approximation of the normal CDF is good to 3e-4; the first and last bins are open."""
    bins = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    normal = torch.distributions.Normal(0.1, 0.3)
    edges = torch.cat([torch.tensor([-torch.inf]), (bins[:-1] + bins[1:]) / 2, torch.tensor([torch.inf])])
    expected = normal.cdf(edges).diff()
    mean, log_scale = torch.tensor([0.1, math.log(0.3)], dtype=torch.float64)
    actual = discretised_log_likelihood(bins, mean, log_scale).exp()
    torch.testing.assert_close(actual, expected.double(), rtol=0.02, atol=3e-4)


def path_of(betas: str, num_steps: int):
    if betas == "linear":
        return discrete(np.linspace(0.1, 20, num_steps) / num_steps)
    if betas == "scaled_linear":
        return discrete(np.linspace(0.00085**0.5, 0.012**0.5, num_steps) ** 2)
    abar = cosine_abar(np.arange(num_steps + 1) / num_steps)
    return discrete(np.minimum(1 - abar[1:] / abar[:-1], 0.999))
