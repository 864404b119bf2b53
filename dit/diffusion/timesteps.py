"""Time laws: the distribution of the training times, as a map from one uniform number per sample to t in (0, 1).

A law that draws times with density p(t) to reduce variance also returns the weight 1 / p(t), under which the expected
loss is that of uniform times. A law that defines the objective itself (logit-normal) has weight 1.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dit.diffusion.config import AdaptiveTime, LogitNormalTime, UniformTime

# u = 0 would be t = 0, where nothing is left to predict.
_SMALLEST = 2.0**-40


@dataclass(frozen=True)
class Times:
    """Training times of one batch."""

    t: Tensor
    """(B,) float64 in (0, 1)."""
    weight: Tensor
    """(B,) float64 importance weights of the losses at these times."""


class TimeLaw(ABC):
    """A distribution of training times."""

    @abstractmethod
    def draw(self, u: Tensor) -> Times:
        """Map uniform numbers u (B,) float64 in [0, 1) to times by the law's inverse CDF."""

    def update(self, t: Tensor, losses: Tensor) -> None:  # noqa: B027 - most laws learn nothing
        """Learn from the losses (B,), before their weights, at the times t (B,), in the order of the samples."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what the law has learned; a checkpoint holds it."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` returned."""
        assert not state, state


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Move times towards noise (shift > 1) as larger images need.

    Source: Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis", 2024, equation 23.
    """
    return shift * t / (1 + (shift - 1) * t)


@dataclass(frozen=True)
class UniformLaw(TimeLaw):
    """t ~ U(0, 1), shifted."""

    shift: float = 1.0

    def draw(self, u: Tensor) -> Times:
        """Return u itself, shifted."""
        return Times(shift_time(u.clamp(_SMALLEST, 1 - _SMALLEST), self.shift), torch.ones_like(u))


@dataclass(frozen=True)
class LogitNormalLaw(TimeLaw):
    """logit(t) ~ N(mean, scale^2), shifted.

    Source: Esser et al., 2024, equation 19.
    """

    mean: float = 0.0
    scale: float = 1.0
    shift: float = 1.0
    largest: float = 1.0
    """Times before the shift are at most this: the law is cut off there and the rest scaled up."""

    def draw(self, u: Tensor) -> Times:
        """Return the sigmoid of the normal quantile of u."""
        if self.largest < 1:
            end = (math.log(self.largest / (1 - self.largest)) - self.mean) / self.scale
            u = u * torch.special.ndtr(torch.tensor(end, dtype=u.dtype))
        z = torch.special.ndtri(u.clamp(_SMALLEST, 1 - _SMALLEST))
        return Times(shift_time(torch.sigmoid(self.mean + self.scale * z), self.shift), torch.ones_like(u))


@dataclass(frozen=True)
class LogNormalLaw(TimeLaw):
    """log(t) ~ N(mean, scale^2), cut off at t = 1.

    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022, table 1.
    """

    mean: float
    scale: float

    def draw(self, u: Tensor) -> Times:
        """Return the exponential of the normal quantile of u."""
        end = torch.special.ndtr(torch.tensor(-self.mean / self.scale, dtype=u.dtype))
        z = torch.special.ndtri((u * end).clamp(min=_SMALLEST))
        return Times((self.mean + self.scale * z).exp().clamp(max=1.0), torch.ones_like(u))


class AdaptiveLaw(TimeLaw):
    """Importance sampling of t: bucket k of K has probability in proportion to the root mean square of its losses.

    Until every bucket has seen a loss the times are uniform; afterwards a fixed share of them stays so.

    Source: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, equation 18.
    """

    def __init__(self, num_buckets: int, *, decay: float, uniform_share: float) -> None:
        self.num_buckets, self.decay, self.uniform_share = num_buckets, decay, uniform_share
        self.second_moments = torch.zeros(num_buckets, dtype=torch.float64)
        self.counts = torch.zeros(num_buckets, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """Return the probabilities of the buckets: (K,) float64."""
        uniform = torch.full_like(self.second_moments, 1 / self.num_buckets)
        if (self.counts == 0).any() or not self.second_moments.any():
            return uniform
        measured = self.second_moments.sqrt()
        return self.uniform_share * uniform + (1 - self.uniform_share) * measured / measured.sum()

    def draw(self, u: Tensor) -> Times:
        """Return t by the piecewise linear inverse CDF of the histogram."""
        u = u.clamp(_SMALLEST, 1 - _SMALLEST)
        probabilities = self.probabilities()
        upper = probabilities.cumsum(0)
        bucket = torch.searchsorted(upper, u).clamp(max=self.num_buckets - 1)  # (B,)
        within = (u - (upper[bucket] - probabilities[bucket])) / probabilities[bucket]
        t = ((bucket + within) / self.num_buckets).clamp(_SMALLEST, 1 - _SMALLEST)
        return Times(t, 1 / (probabilities[bucket] * self.num_buckets))

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Move the second moments of the buckets that were hit, sample by sample."""
        # A discrete step's time (k + 1) / N is the end of the interval from which it was drawn.
        ends = (t.cpu().double() * self.num_buckets - 1e-9).ceil().long()
        buckets = (ends - 1).clamp(0, self.num_buckets - 1).tolist()
        for bucket, square in zip(buckets, losses.detach().double().square().tolist(), strict=True):
            decay = self.decay if self.counts[bucket] else 0.0
            self.second_moments[bucket] = decay * self.second_moments[bucket] + (1 - decay) * square
            self.counts[bucket] += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the histogram."""
        return {"second_moments": self.second_moments.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back a histogram of as many buckets."""
        assert state["second_moments"].shape == self.second_moments.shape, state["second_moments"].shape
        self.second_moments, self.counts = state["second_moments"].clone(), state["counts"].clone()


def create_time_law(config: UniformTime | LogitNormalTime | AdaptiveTime) -> TimeLaw:
    """Build the law that a recipe names."""
    if isinstance(config, UniformTime):
        return UniformLaw(config.shift)
    if isinstance(config, LogitNormalTime):
        return LogitNormalLaw(config.mean, config.scale, config.shift, config.largest)
    return AdaptiveLaw(config.num_buckets, decay=config.decay, uniform_share=config.uniform_share)
