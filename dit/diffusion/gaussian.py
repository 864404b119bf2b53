"""Denoising diffusion with learned variance, as the published DiT networks were trained.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps over 1000 steps; the network returns eps and an interpolation v of the
reverse process's log-variance between log beta_t and the posterior's. Loss per sample = mse + vb:

    mse = mean (eps_pred - eps)^2,   vb = mean KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) / ln 2,

where vb does not reach the eps half, and at step 0 is the discretised negative log-likelihood / ln 2.

Source: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, section 3.1.
"""

import math

import torch
from torch import Tensor

from dit.diffusion.coefficients import mix, on_device, per_sample
from dit.diffusion.config import GaussianConfig
from dit.diffusion.posterior import Posterior, learned_log_variance, posterior
from dit.diffusion.prediction import PREDICTIONS
from dit.diffusion.process import Losses, Model, Process, mean_square, weighted
from dit.diffusion.schedule import DiscreteSchedule, cosine_betas, linear_betas, scaled_linear_betas
from dit.diffusion.timesteps import Times, create_time_law


class GaussianProcess(Process):
    """Discrete-time diffusion with epsilon prediction.

    Attributes:
        posterior: coefficients of q(x_{t-1} | x_t, x_0), each (N,) float64.
        log_betas: (N,) upper bound of the learned log-variance.
        posterior_log_variance_clipped: (N,) lower bound; the first entry, log 0, is replaced by the second.
    """

    def __init__(self, config: GaussianConfig) -> None:
        self.config: GaussianConfig = config
        laws = {"linear": linear_betas, "cosine": cosine_betas, "scaled_linear": scaled_linear_betas}
        betas = laws[config.betas](config.num_steps)
        self.schedule: DiscreteSchedule = DiscreteSchedule(betas)
        self.prediction = PREDICTIONS["eps"]
        self.time_law = create_time_law(config.time_law)
        self.weighting = config.weighting
        self.learn_sigma = config.learn_sigma
        self.posterior = posterior_of_steps(self.schedule)
        self.log_betas = self.schedule.betas.log()
        self.posterior_log_variance_clipped = _log_without_first(self.posterior.variance)

    def model_time(self, t: Tensor) -> Tensor:
        """Return the integer step k of t = (k + 1) / N, counted from `first_step`, float32 of t's shape."""
        return (self.config.num_steps * t.double() - 1 + self.config.first_step).float()

    def losses(self, model: Model, x_0: Tensor, y: Tensor, *, noise: Tensor, u: Tensor) -> Losses:
        """Return mse + vb, or mse alone without a learned variance; see `Process.losses`."""
        num_steps = self.schedule.num_steps
        times = self.time_law.draw(u)
        step = (times.t * num_steps).long().clamp(max=num_steps - 1)  # (B,)
        times = Times(self.schedule.time_of_step(step), times.weight)
        found = on_device(self.loss_coefficients(times) | self.step_coefficients(step), x_0)
        x_t = mix(found["alpha"], x_0, found["sigma"], noise)
        eps, variance = self.split(model(x_t, found["time"].float(), y))
        mse = found["weight"] * mean_square(eps - noise)
        times = Times(times.t, found["importance"])
        if variance is None:
            return weighted(mse, times)
        vb = self._bound(torch.cat([eps.detach(), variance], dim=1), x_0, x_t, found)
        return weighted(mse + vb, times, {"mse": mse, "vb": vb})

    def variational_bound(self, output: Tensor, x_0: Tensor, x_t: Tensor, step: Tensor) -> Tensor:
        """Return one term of the variational bound per sample, in bits per dimension: (B,).

        Args:
            output: (B, 2C, H, W) the network's output at x_t.
            x_0: (B, C, H, W) data.
            x_t: (B, C, H, W) the data noised to `step`.
            step: (B,) int64 in 0..N-1. At step 0 the term is the discretised negative log-likelihood, which is meant
                for 8-bit pixels scaled to [-1, 1]: on latents it is no number of bits.
        """
        return self._bound(output, x_0, x_t, on_device(self.step_coefficients(step), x_t))

    def step_coefficients(self, step: Tensor) -> dict[str, Tensor]:
        """Return what the bound at these steps takes, each (B,) on the host, by name.

        of_x_0 and of_x_t of the posterior's mean; upper and lower bound of the log-variance; data_of_x_t and
        data_of_output of the predicted x_0; at_data: 1 at step 0, else 0.
        """
        t = self.schedule.time_of_step(step)
        data_of_x_t, data_of_output = self.prediction.data_coefficients(self.schedule, t)
        return {
            "of_x_0": self.posterior.of_x_0[step],
            "of_x_t": self.posterior.of_x_t[step],
            "upper": self.log_betas[step],
            "lower": self.posterior_log_variance_clipped[step],
            "data_of_x_t": data_of_x_t,
            "data_of_output": data_of_output,
            "at_data": (step == 0).double(),
        }

    def posterior_mean(self, x_0: Tensor, x_t: Tensor, step: Tensor) -> Tensor:
        """Return the mean of q(x_{t-1} | x_t, x_0): (B, C, H, W) for step (B,)."""
        return mix(self.posterior.of_x_0[step], x_0, self.posterior.of_x_t[step], x_t)

    def reverse_mean_and_log_variance(self, output: Tensor, x_t: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of p(x_{t-1} | x_t), each (B, C, H, W), from an output (B, 2C, H, W)."""
        return self._reverse(output, x_t, on_device(self.step_coefficients(step), x_t))

    def _bound(self, output: Tensor, x_0: Tensor, x_t: Tensor, found: dict[str, Tensor]) -> Tensor:
        """Return `variational_bound` by its coefficients, each (B,)."""
        x_0, x_t, output = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (x_0, x_t, output))
        q_mean, q_log_variance = mix(found["of_x_0"], x_0, found["of_x_t"], x_t), per_sample(found["lower"], x_t)
        p_mean, p_log_variance = self._reverse(output, x_t, found)
        kl = normal_kl(q_mean, q_log_variance, p_mean, p_log_variance)
        nll = -discretised_log_likelihood(x_0, p_mean, 0.5 * p_log_variance)
        return torch.where(per_sample(found["at_data"], x_t).bool(), nll, kl).flatten(1).mean(1) / math.log(2)

    def _reverse(self, output: Tensor, x_t: Tensor, found: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return `reverse_mean_and_log_variance` by its coefficients, each (B,)."""
        prediction, variance = self.split(output)
        assert variance is not None
        x_0 = mix(found["data_of_x_t"], x_t, found["data_of_output"], prediction)
        upper, lower = per_sample(found["upper"], x_t), per_sample(found["lower"], x_t)
        return mix(found["of_x_0"], x_0, found["of_x_t"], x_t), learned_log_variance(variance, upper, lower)

    def prior_bits_per_dim(self, x_0: Tensor) -> Tensor:
        """Return KL(q(x_T | x_0) || N(0, I)) in bits per dimension: (B,) for x_0 (B, C, H, W)."""
        t = torch.ones(len(x_0), dtype=torch.float64)
        mean = per_sample(self.schedule.alpha(t), x_0) * x_0
        log_variance = per_sample(2 * self.schedule.sigma(t).log(), x_0)
        kl = normal_kl(mean, log_variance, torch.zeros_like(mean), torch.zeros_like(log_variance))
        return kl.flatten(1).mean(1) / math.log(2)


def posterior_of_steps(schedule: DiscreteSchedule) -> Posterior:
    """Return the coefficients of q(x_{t-1} | x_t, x_0) at every step, each (N,) float64."""
    t = schedule.time_of_step(torch.arange(schedule.num_steps))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    alpha_before = torch.cat([alpha.new_ones(1), alpha[:-1]])
    sigma_before = torch.cat([sigma.new_zeros(1), sigma[:-1]])
    return posterior(alpha, sigma, alpha_before, sigma_before)


def _log_without_first(variance: Tensor) -> Tensor:
    return torch.cat([variance[1:2], variance[1:]]).log()


def normal_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """Return KL(N(mean_1, exp(log_variance_1)) || N(mean_2, exp(log_variance_2))) per element, in nats."""
    ratio = (log_variance_1 - log_variance_2).exp()
    distance = (mean_1 - mean_2).square() * (-log_variance_2).exp()
    # Near-equal distributions cancel in float32; this order of terms is the one behind the published figures.
    return 0.5 * (-1 + log_variance_2 - log_variance_1 + ratio + distance)


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the log-probability of the 8-bit bin around x under N(mean, exp(log_scale)^2), per element, in nats.

    Bins have half-width 1/255; the lowest (x < -0.999) and the highest (x > 0.999) are open. The normal CDF is its
    tanh approximation and probabilities are floored at 1e-12, as in the published losses.

    Source: Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020, equation 13.
    """
    inverse_scale = (-log_scale).exp()
    above = _normal_cdf((x - mean + 1 / 255) * inverse_scale)
    below = _normal_cdf((x - mean - 1 / 255) * inverse_scale)
    probability = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return probability.clamp(min=1e-12).log()


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
