"""What training and sampling need of a process: times, corrupted data, losses, and the reading of a network's output.

B batch, C latent channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dit.device import to_device
from dit.diffusion.coefficients import mix, on_device, per_sample
from dit.diffusion.config import AverageVelocityConfig, EdmConfig, FlowConfig, GaussianConfig, UniformWeighting
from dit.diffusion.prediction import Prediction
from dit.diffusion.schedule import Schedule
from dit.diffusion.timesteps import TimeLaw, Times
from dit.diffusion.weighting import Weighting, loss_weight

Model = Callable[..., Tensor]
"""model(x_t (B, C, H, W), t (B,) as the network embeds it, y (B,), **conditions, each (B,)) -> (B, C or 2C, H, W)."""


@runtime_checkable
class UnderAutocast(Protocol):
    """A network that computes under autocast, and can be called without."""

    without_autocast: Model
    """The same network in the type of its weights."""


@dataclass(frozen=True)
class Losses:
    """Per-sample training losses of one batch."""

    loss: Tensor
    """(B,) what is minimised; the importance weights of the times are in it."""
    t: Tensor
    """(B,) float64, times in (0, 1] at which the losses were taken."""
    unweighted: Tensor
    """(B,) the loss before its weights, of the times and of the samples: what `TimeLaw.update` learns from."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Parts of the unweighted loss by name, each (B,)."""


@dataclass(frozen=True)
class Denoised:
    """A network's output, read as data and noise."""

    x_0: Tensor
    """(B, C, H, W) predicted data; never clipped."""
    eps: Tensor
    """(B, C, H, W) predicted noise."""
    variance: Tensor | None = None
    """(B, C, H, W) the output's variance half, where the process learns one."""


class Process:
    """A schedule, a prediction, and how the network is told the time.

    Attributes:
        config: the recipe's section from which the process was made.
        schedule: alpha_t and sigma_t.
        prediction: what the first C output channels mean.
        time_law: distribution of the training times.
        weighting: weight of the square error over time.
        output_sign: 1, or -1 for networks that return the opposite of the prediction.
        learn_sigma: whether the network has C further output channels.
        num_uniforms: uniform numbers that the loss of a sample takes.
    """

    config: FlowConfig | GaussianConfig | EdmConfig | AverageVelocityConfig
    schedule: Schedule
    prediction: Prediction
    time_law: TimeLaw
    weighting: Weighting = UniformWeighting()
    output_sign: int = 1
    learn_sigma: bool = False
    num_uniforms: int = 1

    def losses(
        self, model: Model, x_0: Tensor, y: Tensor, *, noise: Tensor, u: Tensor, where: Tensor | None = None
    ) -> Losses:
        """Return the per-sample training losses: the weighted square error of the prediction.

        Args:
            model: the network.
            x_0: (B, C, H, W) normalised latents.
            y: (B,) int64 labels, dropped ones already replaced by the null class (`drop_labels`).
            noise: (B, C, H, W) standard normal.
            u: (B,) float64 uniform in [0, 1), from which the time law makes the times; (B, num_uniforms) where a loss
                takes several.
            where: (B, 1, H, W) 1 where the error counts, else 0; None: everywhere.
        """
        times = self.time_law.draw(u)
        told = self.conditions(times.t, times.t)
        found = on_device(self.loss_coefficients(times) | told, x_0)
        x_t = mix(found["alpha"], x_0, found["sigma"], noise)
        scaled = per_sample(found["scale"], x_t) * x_t if "scale" in found else x_t
        output, _ = self.split(model(scaled, found["time"].float(), y, **{name: found[name].float() for name in told}))
        error = output - mix(found["a"], x_0, found["b"], noise)
        times = Times(times.t, found["importance"])
        return weighted(found["weight"] * mean_square(error, where), times)

    def loss_coefficients(self, times: Times) -> dict[str, Tensor]:
        """Return what a loss at these times takes, each (B,) on the host, by name.

        alpha and sigma of x_t; a and b of the target; scale, where there is one, and time, as the network takes them;
        weight of the square error, and importance of the times.
        """
        t, scale = times.t, self.input_scale(times.t)
        a, b = self.prediction.target_coefficients(self.schedule, t)
        weight = loss_weight(self.weighting, self.schedule, self.prediction, t)
        found = {"alpha": self.schedule.alpha(t), "sigma": self.schedule.sigma(t), "a": a, "b": b}
        found |= {"time": self.model_time(t), "weight": weight, "importance": times.weight}
        return found if scale is None else found | {"scale": scale}

    def corrupt(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x_t = alpha_t x_0 + sigma_t noise for x_0 (B, ...) and t (B,) float64."""
        return mix(self.schedule.alpha(t), x_0, self.schedule.sigma(t), noise)

    def model_time(self, t: Tensor) -> Tensor:
        """Return the time as the network embeds it, float32 of t's shape: t itself unless a process says otherwise."""
        return t.float()

    def model_input(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return x_t (B, C, H, W) at t, (B,) or one time for all, as the network takes it."""
        scale = self.input_scale(t)
        return x_t if scale is None else per_sample(scale, x_t) * x_t

    def input_scale(self, t: Tensor) -> Tensor | None:
        """Return the factor of x_t at times t as the network takes it, float64 of t's shape; None: 1."""
        return None

    def conditions(self, t: Tensor, until: Tensor) -> dict[str, Tensor]:
        """Return what the network is told besides time and class of a step from t to `until`: name -> of t's shape."""
        return {}

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split a network's output into the prediction (B, C, H, W), sign applied, and the second half, if any."""
        if not self.learn_sigma:
            return self.output_sign * output, None
        prediction, rest = output.chunk(2, dim=1)
        return self.output_sign * prediction, rest

    def denoise(self, output: Tensor, x_t: Tensor, t: Tensor) -> Denoised:
        """Read a network's output at x_t (B, C, H, W) and t, (B,) or one time for all, as data and noise."""
        prediction, rest = self.split(output)
        x_0, eps = self.prediction.to_data_and_noise(self.schedule, t, x_t, prediction)
        return Denoised(x_0, eps, rest)


def drop_labels(y: Tensor, null_class: int, *, probability: float, u: Tensor) -> Tensor:
    """Replace a share of the labels by the null class, which guidance needs: the networks never do it themselves.

        y = drop_labels(y, model.null_class, probability=0.1, u=torch.rand(len(y)))
        loss = process.losses(model, x_0, y, noise=noise, u=u).loss.mean()

    Args:
        y: (B,) int64 labels.
        null_class: label of the null class, as the network names it.
        probability: share that is dropped.
        u: (B,) uniform in [0, 1), on any device.

    Returns:
        (B,) labels on y's device.

    Source: Ho and Salimans, Classifier-Free Diffusion Guidance (2022), algorithm 1.
    """
    return y.masked_fill(to_device(u < probability, y.device), null_class)


def weighted(loss: Tensor, times: Times, terms: dict[str, Tensor] | None = None) -> Losses:
    """Return losses (B,) at the given times with their importance weights applied."""
    return Losses(loss * times.weight.to(loss), times.t, loss, terms or {})


def mean_square(error: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the mean over (C, H, W) of the square of (B, C, H, W): (B,), in float32 or better.

    Args:
        error: what is squared.
        where: (B, 1, H, W) 1 where it counts, else 0; None: everywhere.
    """
    square = error.to(torch.promote_types(error.dtype, torch.float32)).square()
    if where is None:
        return square.flatten(1).mean(1)
    return (square * where).flatten(1).sum(1) / (error.shape[1] * where.flatten(1).sum(1))
