"""The loss of improved MeanFlow: a second output learns the velocity, and guidance is an input.

The network returns u and v, both told the scale w of guidance and the interval [t_min, t_max] in which it acts; with
v(w, y) the second output at r = t and v_t the sample's velocity,

    v_g = v_t + (1 - 1/w) (v(w, y) - v(1, null)),     e_u = u + (t - r) du/dt - v_g,     e_v = v - v_g,

where du/dt follows v(w, y), which the network knows when it samples, and has no gradient. At r = t the interval is all
of [0, 1]; outside its interval w is 1. The loss is the sum of both errors' adaptively weighted squares.

B batch, C latent channels.

Source: Geng et al., "Improved mean flows: on the challenges of fastforward generative models", 2025, sections 4.1 to
4.3; Lu et al., "One-step latent-free image generation with pixel mean flows", 2026, for the floor of the velocity.
"""

import torch
from torch import Tensor

from dit.device import to_device
from dit.diffusion.average_velocity import AverageVelocityProcess
from dit.diffusion.coefficients import on_device, per_sample
from dit.diffusion.config import AverageVelocityConfig, ImfLoss
from dit.diffusion.mean_flow import adaptive, draw_times
from dit.diffusion.process import Losses, Model, mean_square


class ImfProcess(AverageVelocityProcess):
    """Average velocities and velocities of a network with an output for each, guided as it is told."""

    num_uniforms = 6

    def __init__(self, config: AverageVelocityConfig, null_class: int | None = None) -> None:
        super().__init__(config, null_class)
        assert isinstance(config.loss, ImfLoss)
        self.loss = config.loss

    def losses(self, model: Model, x_0: Tensor, y: Tensor, *, noise: Tensor, u: Tensor) -> Losses:
        """Return the per-sample losses; see `Process.losses`.

        Numbers u: two for the times, one for r = t, one for the scale and two for the interval of guidance.
        """
        assert self.null_class is not None
        t, r = draw_times(self.time_law, u, self.loss.equal_share)  # each (B,)
        drawn = self.draw_guidance(u[:, 3:], r == t)
        told = on_device(drawn, x_0)
        x_t = self.corrupt(x_0, noise, t)
        at, low, high = (value.to(x_t.dtype) for value in (t, drawn["t_min"], drawn["t_max"]))
        acts = (at >= low) & (at <= high)  # (B,), on the host, which asks for no more than it needs
        scale = torch.where(to_device(acts, x_t.device), told["guidance"], 1.0)  # (B,)
        null = torch.full_like(y, self.null_class)
        unguided = self.second(model, x_t, t, null, torch.ones_like(scale), of=acts)
        along = self.second(model, x_t, t, y, scale, of=r < t)
        derivative = self.derivative(model, x_t, t, r, y, along=along, **told)
        average, second = self.average(model, x_t, t, r, y, heads="uv", **told).chunk(2, dim=1)
        # At r = t guidance is told as to `second`, so that the other samples' v(w, y) has come out of this call.
        along = torch.where(to_device(r < t, x_t.device)[:, None, None, None], along, second.detach())
        push = per_sample((1 - 1 / scale) * (y != null), x_t)
        floored = per_sample(t / t.clamp(min=self.loss.velocity_floor), x_t)
        velocity = floored * self.prediction.target(self.schedule, t, x_0, noise) + push * (along - unguided)
        mse = mean_square(average + per_sample(t - r, x_t) * derivative - velocity)
        mse_velocity = mean_square(second - velocity)
        size, config = x_0[0].numel(), self.loss
        loss = adaptive(mse, size, config) + adaptive(mse_velocity, size, config)
        return Losses(loss, t, mse + mse_velocity, {"mse": mse, "mse_velocity": mse_velocity})

    @torch.no_grad()
    def second(self, model: Model, x_t: Tensor, t: Tensor, y: Tensor, scale: Tensor, *, of: Tensor) -> Tensor:
        """Return v(w, y) (B, C, H, W) at scales w (B,) for the samples `of` (B,) on the host, and zeros for others."""
        rows, found = of.nonzero().flatten(), torch.zeros_like(x_t)
        if len(rows):
            on = to_device(rows, x_t.device)
            told = {"guidance": scale[on], "t_min": torch.zeros_like(scale[on]), "t_max": torch.ones_like(scale[on])}
            found[on] = self.average(model, x_t[on], t[rows], t[rows], y[on], heads="v", **told).to(x_t)
        return found

    def draw_guidance(self, u: Tensor, equal: Tensor) -> dict[str, Tensor]:
        """Return scale and interval of guidance for uniform numbers u (B, 3): name -> (B,) float64.

        Args:
            u: of the scale and of both ends.
            equal: (B,) whether r = t, where guidance always acts.
        """
        t_min, t_max = u[:, 1] / 2, (1 + u[:, 2]) / 2
        return {
            "guidance": power_law(u[:, 0], self.loss.largest_guidance, self.loss.guidance_power),
            "t_min": t_min.masked_fill(equal, 0.0),
            "t_max": t_max.masked_fill(equal, 1.0),
        }


def power_law(u: Tensor, largest: float, power: float) -> Tensor:
    """Return numbers between 1 and `largest` of a density in proportion to w^-power, for uniform u, of u's shape."""
    if power == 1:
        return largest**u
    return (1 + u * (largest ** (1 - power) - 1)) ** (1 / (1 - power))
