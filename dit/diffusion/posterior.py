"""The posterior q(x_s | x_t, x_0) for two times s < t of any schedule.

With r = alpha_t / alpha_s and beta = sigma_t^2 - r^2 sigma_s^2, the variance that noising from s to t adds:

    mean = (alpha_s beta / sigma_t^2) x_0 + (r sigma_s^2 / sigma_t^2) x_t,   variance = beta sigma_s^2 / sigma_t^2.

Source: Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020, equations 6 and 7, and for general
schedules Kingma et al., "Variational diffusion models", NeurIPS 2021, appendix A.2.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Posterior:
    """Coefficients of q(x_s | x_t, x_0), float64 tensors of the times' shape."""

    beta: Tensor
    """Variance that noising from s to t adds."""
    variance: Tensor
    """Variance of the posterior; 0 where s is data."""
    of_x_0: Tensor
    """Coefficient of x_0 in the mean."""
    of_x_t: Tensor
    """Coefficient of x_t in the mean."""


def posterior(alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Posterior:
    """Return the coefficients of q(x_s | x_t, x_0) for times s < t, all float64 of one shape."""
    ratio = alpha_t / alpha_s
    beta = sigma_t**2 - ratio**2 * sigma_s**2
    share = sigma_s**2 / sigma_t**2
    return Posterior(beta, beta * share, alpha_s * beta / sigma_t**2, ratio * share)


def learned_log_variance(output: Tensor, log_upper: Tensor, log_lower: Tensor) -> Tensor:
    """Interpolate the log-variance between its two bounds by a network's output.

    Args:
        output: (B, C, H, W), not clamped; -1 stands for the lower and 1 for the upper bound.
        log_upper: log beta, broadcastable.
        log_lower: log of the posterior variance, broadcastable.

    Source: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, equation 15.
    """
    share = (output + 1) / 2
    return share * log_upper + (1 - share) * log_lower
