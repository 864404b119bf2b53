"""Average velocities: one network call crosses any stretch of the path.

u(x_t, r, t) is the mean of the velocity v between the times r < t along the flow,

    u = 1 / (t - r) int_r^t v(x_s, s) ds,   so   x_r = x_t - (t - r) u(x_t, r, t),

and at r = t it is v itself. The network is told r, or the step h = t - r, besides t.

Source: Geng et al., "Mean flows for one-step generative modeling", NeurIPS 2025, equations 3 and 11.
"""

from typing import Any

import torch
from torch import Tensor

from dit.device import to_device
from dit.diffusion.config import AverageVelocityConfig
from dit.diffusion.prediction import VelocityPrediction
from dit.diffusion.process import Model, Process
from dit.diffusion.schedule import LinearSchedule
from dit.diffusion.timesteps import create_time_law
from dit.diffusion.total_derivative import total_derivative


class AverageVelocityProcess(Process):
    """The straight path, with a network that knows two times; trained at r = t, where the average is the velocity.

    Args:
        config: the recipe's section.
        null_class: label of the null class, which guidance in a loss asks the network for; None: there is none.
    """

    def __init__(self, config: AverageVelocityConfig, null_class: int | None = None) -> None:
        self.config: AverageVelocityConfig = config
        self.null_class = null_class
        self.schedule = LinearSchedule(config.noise_scale)
        self.prediction = VelocityPrediction()
        self.time_law = create_time_law(config.time_law)
        self.output_sign = config.output_sign

    def model_time(self, t: Tensor) -> Tensor:
        """Return time_offset + time_scale t, float32."""
        return self._embedded(t).float()

    def conditions(self, t: Tensor, until: Tensor) -> dict[str, Tensor]:
        """Return {"r": until} as the network embeds times, or {"h": t - until} at their scale; float32."""
        return {name: value.float() for name, value in self._told(t, until).items()}

    def average(self, model: Model, x_t: Tensor, t: Tensor, r: Tensor, y: Tensor, **told: Any) -> Tensor:
        """Return what a network says of the stretch from t back to r, both (B,): (B, C, H, W), or more channels."""
        told |= {name: to_device(value, x_t.device) for name, value in self.conditions(t, r).items()}
        return self.output_sign * model(x_t, to_device(self.model_time(t), x_t.device), y, **told)

    def derivative(
        self, model: Model, x_t: Tensor, t: Tensor, r: Tensor, y: Tensor, *, along: Tensor, **told: Tensor
    ) -> Tensor:
        """Return d u(x_t, r, t) / dt where x_t moves with the velocity `along`: (B, C, H, W), without gradient.

        Samples with r = t, where no loss has a use for it, cost nothing and get zeros.
        """
        rows = to_device((r < t).nonzero().flatten(), x_t.device)
        found = torch.zeros_like(x_t)
        if not len(rows):
            return found
        until, now = (to_device(time, x_t.device, x_t.dtype)[rows] for time in (r, t))
        labels, told = y[rows], {name: value[rows] for name, value in told.items()}

        def average(model: Model, x: Tensor, t: Tensor) -> Tensor:
            return self.output_sign * model(x, self._embedded(t), labels, **self._told(t, until), **told)

        found[rows] = total_derivative(model, average, x_t[rows], now, along[rows])
        return found

    def _embedded(self, t: Tensor) -> Tensor:
        return self.config.time_offset + self.config.time_scale * t

    def _told(self, t: Tensor, until: Tensor) -> dict[str, Tensor]:
        earlier = self._embedded(until) if self.config.condition == "r" else self.config.time_scale * (t - until)
        return {self.config.condition: earlier}
