"""The variational bound of a discrete Gaussian process, term by term, in nats per dimension of the latents.

    -log p(x_0) <= prior + sum over steps k = N-1 .. 1 of term_k + term_0
    prior  = KL(q(x_T | x_0) || N(0, I))
    term_k = E KL(q(x_{k-1} | x_k, x_0) || p(x_{k-1} | x_k))
    term_0 = E -log p(x_0 | x at step 0)

What term_0 means: latents are continuous, so it is the *density* of the reverse Gaussian at the latents, and the total
bounds their negative log density. It can be negative, it changes by a constant with the normalisation of the latents,
and it may be compared with the likelihood through the ODE and between models on the same latents, but with no figure
of pixels. Training, as published, puts there the probability of an 8-bit bin of half-width 1/255, as if latents were
pixels in [-1, 1]; that number, `discretised`, is kept beside it for comparison with the loss and counts no bits.

B batch, C latent channels, N steps.

Source: Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020, equation 5; Nichol & Dhariwal, 2021.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dit.diffusion.coefficients import per_sample
from dit.diffusion.gaussian import GaussianProcess, discretised_log_likelihood, normal_kl
from dit.errors import ConfigError, DitError
from dit.rng import Purpose, normal

Variance = Literal["auto", "learned", "lower", "upper"]


@dataclass(frozen=True)
class Bound:
    """The bound of a batch in nats per dimension, each float64 on the CPU."""

    prior: Tensor
    """(B,) divergence of the last noised latents from pure noise."""
    terms: Tensor
    """(B, N), term k in column k; column 0 is the density of the latents, not a probability."""
    discretised: Tensor
    """(B,) the term of step 0 as the training loss has it, of 8-bit bins; not part of the total."""

    @property
    def total(self) -> Tensor:
        """(B,) upper bound of the negative log density."""
        return self.prior + self.terms.sum(1)


@torch.no_grad()
def variational_bound(
    model: Any,
    process: GaussianProcess,
    x_0: Tensor,
    y: Tensor,
    *,
    variance: Variance = "auto",
    seed: int = 0,
    positions: Sequence[int] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Bound:
    """Compute every term of the bound with one draw of noise per latent and step.

    Args:
        model: the network, by the contract model(x_t, t, y); it is called N times.
        process: the process that it was trained with.
        x_0: (B, C, H, W) normalised latents.
        y: (B,) int64 labels, on the device to compute on.
        variance: the reverse variance; auto: learned if the network has it, else upper.
        seed: of the noise.
        positions: B global sample positions, by default 0..B-1; with the seed they decide the noise.
        progress: is told the share in [0, 1] of the steps that are done.

    Raises:
        ConfigError: a learned variance is asked of a network without.
        DitError: the network returned values that are not finite.
    """
    positions = range(len(y)) if positions is None else positions
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    dtype = torch.float32 if parameter is None else parameter.dtype
    x_0 = x_0.cpu().double()
    num_steps = process.schedule.num_steps
    terms, discretised = torch.zeros(len(y), num_steps, dtype=torch.float64), torch.zeros(0)
    for k in reversed(range(num_steps)):
        step = torch.full((len(y),), k)
        noise = normal(seed, Purpose.TRAIN_NOISE, positions, tuple(x_0.shape[1:]), step=k).double()
        t = process.schedule.time_of_step(step)
        x_t = process.corrupt(x_0, noise, t)
        output = model(x_t.to(y.device, dtype), process.model_time(t).to(y.device), y).cpu().double()
        terms[:, k] = bound_term(process, output, x_0, x_t, step, variance=variance)
        if k == 0:
            discretised = discretised_term(process, output, x_0, x_t, variance=variance)
        if progress is not None:
            progress(1 - k / num_steps)
    if not terms.isfinite().all():
        raise DitError("likelihood: the network returned values that are not finite; its weights are damaged")
    return Bound(process.prior_bits_per_dim(x_0) * math.log(2), terms, discretised)


def bound_term(
    process: GaussianProcess, output: Tensor, x_0: Tensor, x_t: Tensor, step: Tensor, *, variance: Variance = "auto"
) -> Tensor:
    """Return one term per sample in nats per dimension: (B,); at step 0 the negative log density of x_0.

    Args:
        process: the process.
        output: (B, C or 2C, H, W) of the network at x_t.
        x_0: (B, C, H, W).
        x_t: (B, C, H, W) the data noised to `step`.
        step: (B,) int64 in 0..N-1.
        variance: the reverse variance.
    """
    mean, log_variance = _reverse(process, output, x_t, step, variance)
    q_log_variance = per_sample(process.posterior_log_variance_clipped[step], x_t)
    kl = normal_kl(process.posterior_mean(x_0, x_t, step), q_log_variance, mean, log_variance)
    density = 0.5 * (math.log(2 * math.pi) + log_variance + (x_0 - mean).square() * (-log_variance).exp())
    at_data = (step == 0).reshape(-1, *[1] * (x_t.dim() - 1))
    return torch.where(at_data, density, kl).flatten(1).mean(1)


def discretised_term(
    process: GaussianProcess, output: Tensor, x_0: Tensor, x_t: Tensor, *, variance: Variance = "auto"
) -> Tensor:
    """Return the term of step 0 as training has it, of 8-bit bins: (B,) nats per dimension; see `bound_term`."""
    mean, log_variance = _reverse(process, output, x_t, torch.zeros(len(x_t), dtype=torch.int64), variance)
    return -discretised_log_likelihood(x_0, mean, 0.5 * log_variance).flatten(1).mean(1)


def _reverse(
    process: GaussianProcess, output: Tensor, x_t: Tensor, step: Tensor, variance: Variance
) -> tuple[Tensor, Tensor]:
    """Return mean (B, C, H, W) and log-variance, broadcastable, of p(x_{k-1} | x_k)."""
    if process.learn_sigma and variance in ("auto", "learned"):
        return process.reverse_mean_and_log_variance(output, x_t, step)
    if variance == "learned":
        raise ConfigError("likelihood.variance: learned needs a network with learn_sigma; expected lower or upper")
    denoised = process.denoise(output, x_t, process.schedule.time_of_step(step))
    table = process.posterior_log_variance_clipped if variance == "lower" else process.log_betas
    return process.posterior_mean(denoised.x_0, x_t, step), per_sample(table[step], x_t)
