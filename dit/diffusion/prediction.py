"""Predictions: what a network returns, as a combination a x_0 + b eps of the data and the noise.

Together with x_t = alpha x_0 + sigma eps that is a 2x2 linear system, so one solve converts between all of them:

    x_0 = (b x_t - sigma o) / d,   eps = (alpha o - a x_t) / d,   d = alpha b - sigma a.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dit.diffusion.coefficients import mix
from dit.diffusion.schedule import Schedule


class Prediction(ABC):
    """A combination a x_0 + b eps whose coefficients may depend on time."""

    ends_in_data: bool = False
    """Whether the last step of a sampling, to t=0, goes straight to the predicted data, as published."""

    @abstractmethod
    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (a, b) at times t, each of t's shape, float64."""

    def from_data_and_noise(self, schedule: Schedule, t: Tensor, x_0: Tensor, eps: Tensor) -> Tensor:
        """Return a x_0 + b eps: what a perfect network would return, of x_0's shape (B, ...), for t (B,) or ()."""
        a, b = self.coefficients(schedule, t)
        return mix(a, x_0, b, eps)

    def target_coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (a, b) of what the network is trained to return at times t, each of t's shape, float64."""
        return self.coefficients(schedule, t)

    def data_coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (b / d, -sigma / d), by which x_0 is made of x_t and the output, each of t's shape, float64."""
        sigma, (a, b) = schedule.sigma(t), self.coefficients(schedule, t)
        d = schedule.alpha(t) * b - sigma * a
        return b / d, -sigma / d

    def target(self, schedule: Schedule, t: Tensor, x_0: Tensor, eps: Tensor) -> Tensor:
        """Return what the network is trained to return, of x_0's shape (B, ...), for t (B,)."""
        a, b = self.target_coefficients(schedule, t)
        return mix(a, x_0, b, eps)

    def to_data_and_noise(self, schedule: Schedule, t: Tensor, x_t: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Solve for (x_0, eps), each of x_t's shape (B, ...), for t (B,) or ().

        x_0 is infinite where the output says nothing about it (eps at alpha = 0), eps likewise (x_0 at sigma = 0).
        """
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        a, b = self.coefficients(schedule, t)
        d = alpha * b - sigma * a
        return mix(b / d, x_t, -sigma / d, output), mix(alpha / d, output, -a / d, x_t)


@dataclass(frozen=True)
class DataPrediction(Prediction):
    """x_0 itself."""

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1, 0)."""
        return torch.ones_like(t), torch.zeros_like(t)


@dataclass(frozen=True)
class FlooredDataPrediction(Prediction):
    """x_0, whose velocity (x_t - x_0) / max(t, floor) keeps finite towards t = 0; for the straight path alone.

    With m = max(t, floor) the output that has velocity v is x_t - m v = (alpha - m alpha') x_0 + (sigma - m sigma')
    eps: x_0 itself where t >= floor. It is trained towards x_0 everywhere.

    Source: Li & He, "Back to basics: let denoising generative models denoise", 2025, section 4.
    """

    floor: float
    ends_in_data = True

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha - m alpha', sigma - m sigma')."""
        m = t.clamp(min=self.floor)
        return schedule.alpha(t) - m * schedule.d_alpha(t), schedule.sigma(t) - m * schedule.d_sigma(t)

    def target_coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1, 0): x_0."""
        return torch.ones_like(t), torch.zeros_like(t)


@dataclass(frozen=True)
class PreconditionedPrediction(Prediction):
    """F in x_0 = c_skip x_t + c_out F, for data of deviation s and alpha = 1.

    c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / (sigma^2 + s^2)^(1/2), so F = ((1 - c_skip) x_0 - c_skip sigma
    eps) / c_out, which has unit variance at every noise level.

    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, table 1
    and equation 8.
    """

    sigma_data: float
    ends_in_data = True

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ((1 - c_skip) / c_out, -c_skip sigma / c_out)."""
        sigma, s = schedule.sigma(t), self.sigma_data
        total = (sigma**2 + s**2).sqrt()
        return sigma / (s * total), -s / total


@dataclass(frozen=True)
class NoisePrediction(Prediction):
    """eps, the noise that was mixed in.

    Source: Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020, equation 12.
    """

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (0, 1)."""
        return torch.zeros_like(t), torch.ones_like(t)


@dataclass(frozen=True)
class VPrediction(Prediction):
    """v = alpha eps - sigma x_0.

    Source: Salimans & Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022, appendix D.
    """

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (-sigma, alpha)."""
        return -schedule.sigma(t), schedule.alpha(t)


@dataclass(frozen=True)
class VelocityPrediction(Prediction):
    """d x_t / d t = alpha' x_0 + sigma' eps.

    Source: Lipman et al., "Flow matching for generative modeling", ICLR 2023, equation 10.
    """

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha', sigma')."""
        return schedule.d_alpha(t), schedule.d_sigma(t)


@dataclass(frozen=True)
class ScorePrediction(Prediction):
    """The score of the noised data, -eps / sigma.

    Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021.
    """

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (0, -1 / sigma)."""
        return torch.zeros_like(t), -1 / schedule.sigma(t)


PREDICTIONS: dict[str, Prediction] = {
    "x0": DataPrediction(),
    "eps": NoisePrediction(),
    "v": VPrediction(),
    "velocity": VelocityPrediction(),
    "score": ScorePrediction(),
}
"""The names that recipes use."""
