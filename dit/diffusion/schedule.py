"""Schedules: how much data and how much noise x_t = alpha_t x_0 + sigma_t eps holds at time t in [0, 1].

t=0 is data (alpha 1, sigma 0), t=1 is noise. Everything is computed in float64; log-SNR is 2 log(alpha_t / sigma_t).
Times are tensors of any shape, results have the same shape.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Schedule(ABC):
    """alpha_t, sigma_t and their time derivatives, float64."""

    first_time: float = 1e-3
    """A time so early that its noise is small, and not earlier than what networks are trained at."""

    @property
    def start_deviation(self) -> float:
        """Standard deviation of the noise with which sampling starts at t=1."""
        return 1.0

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        """Return d alpha / d t."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        """Return d sigma / d t; infinite at t=0 where sigma grows like a square root."""

    def log_snr(self, t: Tensor) -> Tensor:
        """Return 2 log(alpha_t / sigma_t): +inf at t=0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """Return the t in [0, 1] at which the log-SNR, which falls with t, has the given values (by bisection)."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(64):
            middle = (low + high) / 2
            is_later = self.log_snr(middle) > log_snr
            low, high = torch.where(is_later, middle, low), torch.where(is_later, high, middle)
        return (low + high) / 2


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """alpha = 1 - t, sigma = s t: the straight path of flow matching, to noise of deviation s.

    Source: Lipman et al., "Flow matching for generative modeling", ICLR 2023, section 4.1 with sigma_min = 0; the scale
    of the noise: Li & He, "Back to basics: let denoising generative models denoise", 2025.
    """

    noise_scale: float = 1.0

    @property
    def start_deviation(self) -> float:
        """The scale of the noise."""
        return self.noise_scale

    def alpha(self, t: Tensor) -> Tensor:
        """Return 1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Return s t."""
        return self.noise_scale * t

    def d_alpha(self, t: Tensor) -> Tensor:
        """Return -1."""
        return -torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Return s."""
        return torch.full_like(t, self.noise_scale)


@dataclass(frozen=True)
class ExplodingSchedule(Schedule):
    """alpha = 1, sigma = sigma_max t: the data stay as they are and drown in noise.

    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, table 1
    (sigma(t) = t, here with t counted in units of sigma_max).
    """

    sigma_max: float = 80.0

    @property
    def start_deviation(self) -> float:
        """The largest sigma; the data are lost in it."""
        return self.sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return sigma_max t."""
        return self.sigma_max * t

    def d_alpha(self, t: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Return sigma_max."""
        return torch.full_like(t, self.sigma_max)


@dataclass(frozen=True)
class GvpSchedule(Schedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): the trigonometric, variance-preserving interpolant.

    Source: Albergo & Vanden-Eijnden, "Building normalizing flows with stochastic interpolants", ICLR 2023; GVP in SiT.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Return cos(pi t / 2), as a sine so that it is exactly 0 at t=1."""
        return torch.sin(math.pi / 2 * (1 - t))

    def sigma(self, t: Tensor) -> Tensor:
        """Return sin(pi t / 2)."""
        return torch.sin(math.pi / 2 * t)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Return -pi / 2 sin(pi t / 2)."""
        return -math.pi / 2 * self.sigma(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        """Return pi / 2 cos(pi t / 2)."""
        return math.pi / 2 * self.alpha(t)


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1: everything follows from log alpha^2 and its slope."""

    @abstractmethod
    def log_alpha_squared(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return log alpha^2 and its derivative with respect to t."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return exp(log alpha^2 / 2)."""
        return (0.5 * self.log_alpha_squared(t)[0]).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Return sqrt(1 - alpha^2)."""
        return torch.expm1(self.log_alpha_squared(t)[0]).abs().sqrt()  # minus would make -0 of 0

    def d_alpha(self, t: Tensor) -> Tensor:
        """Return alpha times half the slope of log alpha^2."""
        value, slope = self.log_alpha_squared(t)
        return 0.5 * slope * (0.5 * value).exp()

    def d_sigma(self, t: Tensor) -> Tensor:
        """Return -alpha d_alpha / sigma, from alpha^2 + sigma^2 = 1."""
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)


@dataclass(frozen=True)
class VpLinearSchedule(VariancePreserving):
    """log alpha^2 = -beta_min t - (beta_max - beta_min) t^2 / 2: the continuous limit of 1000 linear betas.

    Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021,
    equation 33.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def log_alpha_squared(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return log alpha^2 and its derivative, minus beta(t)."""
        rise = self.beta_max - self.beta_min
        return -t * (self.beta_min + 0.5 * rise * t), -(self.beta_min + rise * t)


@dataclass(frozen=True)
class VpCosineSchedule(VariancePreserving):
    """alpha = cos((t + s) / (1 + s) pi / 2) / cos(s / (1 + s) pi / 2): 0 at t=1.

    Source: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, equation 17.
    """

    offset: float = 0.008

    def alpha(self, t: Tensor) -> Tensor:
        """Return the cosine, as a sine so that it is exactly 0 at t=1."""
        # 1 + offset, minus t + offset, over 1 + offset.
        return torch.sin((1 - t) / (1 + self.offset) * math.pi / 2) / math.cos(self._angle(0.0))

    def sigma(self, t: Tensor) -> Tensor:
        """Return sqrt(1 - alpha^2) as a product, which loses no digits near t=0."""
        # cos^2 a - cos^2 b = sin(b - a) sin(b + a)
        start, turned = self._angle(0.0), t / (1 + self.offset) * math.pi / 2
        return (turned.sin() * (turned + 2 * start).sin()).sqrt() / math.cos(start)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Return the derivative of the cosine, finite also where alpha is 0."""
        slope = math.pi / 2 / (1 + self.offset)
        return -slope * torch.cos((1 - t) * slope) / math.cos(self._angle(0.0))

    def log_alpha_squared(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return log alpha^2 and its derivative; -inf at t=1."""
        alpha = self.alpha(t)
        return 2 * alpha.log(), 2 * self.d_alpha(t) / alpha

    def _angle(self, t: float) -> float:
        return (t + self.offset) / (1 + self.offset) * math.pi / 2


class DiscreteSchedule(VariancePreserving):
    """Variance-preserving schedule of N discrete steps: step k in 0..N-1 is the time t = (k + 1) / N, and t=0 is data.

    At the steps alpha^2 = prod(1 - beta_i, i <= k) exactly; between them log alpha^2 is the cubic Hermite interpolant
    with central-difference slopes, so that solvers of the continuous-time equations find a smooth schedule.

    Args:
        betas: (N,) variances of the steps, in (0, 1).

    Source: Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020, equation 4.
    """

    def __init__(self, betas: Tensor) -> None:
        self.betas = betas.double()
        self.num_steps = len(betas)
        self.first_time = 1 / self.num_steps
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)  # (N,)
        self._log_knots = torch.cat([self.betas.new_zeros(1), self.alphas_cumprod.log()])  # (N + 1,)
        self._slopes = torch.gradient(self._log_knots)[0]  # (N + 1,), per step

    def time_of_step(self, step: Tensor) -> Tensor:
        """Return t in (0, 1] of integer steps in 0..N-1."""
        return (step.double() + 1) / self.num_steps

    def log_alpha_squared(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return log alpha^2 and its derivative with respect to t."""
        position = t.double() * self.num_steps
        nearest = position.round()
        # (k + 1) / N * N may miss the integer by an ulp; at a step the table's own value is returned.
        position = torch.where((position - nearest).abs() < 1e-9, nearest, position)
        left = position.floor().long().clamp(0, self.num_steps - 1)
        u = position - left
        v_0, v_1 = self._log_knots[left], self._log_knots[left + 1]
        m_0, m_1 = self._slopes[left], self._slopes[left + 1]
        rise = v_1 - v_0
        cubic, quadratic = m_0 + m_1 - 2 * rise, 3 * rise - 2 * m_0 - m_1
        value = v_0 + u * (m_0 + u * (quadratic + u * cubic))
        slope = m_0 + u * (2 * quadratic + 3 * u * cubic)
        # The polynomial reaches the right knot only up to rounding.
        return torch.where(u == 1, v_1, value), slope * self.num_steps


def linear_betas(num_steps: int = 1000) -> Tensor:
    """Return betas from 1e-4 to 0.02 in equal steps, scaled by 1000 / num_steps: (num_steps,) float64.

    Source: Ho et al., 2020, section 4.
    """
    scale = 1000 / num_steps
    return torch.linspace(scale * 1e-4, scale * 0.02, num_steps, dtype=torch.float64)


def scaled_linear_betas(num_steps: int = 1000) -> Tensor:
    """Return betas whose roots go from 0.00085^(1/2) to 0.012^(1/2) in equal steps: (num_steps,) float64.

    Source: Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022 (the betas of
    Stable Diffusion).
    """
    return torch.linspace(0.00085**0.5, 0.012**0.5, num_steps, dtype=torch.float64).square()


def cosine_betas(num_steps: int = 1000) -> Tensor:
    """Return the betas under which alpha^2 follows a squared cosine, at most 0.999: (num_steps,) float64.

    Source: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, equation 17.
    """
    t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    alphas_cumprod = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2  # (num_steps + 1,)
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)
