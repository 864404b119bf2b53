"""The loss of average velocities, MeanFlow's.

Differentiating (t - r) u = int_r^t v ds by t along the flow gives the identity u = v - (t - r) du/dt, in which v is
known for each sample. What misses it is the loss, in which du/dt has no gradient:

    e = u + (t - r) du/dt - v,     L = |e|^2,     loss = L / (L + c)^p, the denominator without gradient.

With guidance, v is for its part replaced by what the network itself knows, so that it learns the guided flow:

    v_g = (1 - k) (w v + (1 - w) u(x_t, t, t, null)) + k u(x_t, t, t, y).

B batch, C latent channels.

Source: Geng et al., "Mean flows for one-step generative modeling", NeurIPS 2025, equations 6, 10, 21 and 22; its
guidance scale omega is (1 - k) w.
"""

import torch
from torch import Tensor

from dit.device import to_device
from dit.diffusion.average_velocity import AverageVelocityProcess
from dit.diffusion.coefficients import per_sample
from dit.diffusion.config import AverageVelocityConfig, ImfLoss, MeanFlowLoss
from dit.diffusion.process import Losses, Model, mean_square
from dit.diffusion.timesteps import TimeLaw


class MeanFlowProcess(AverageVelocityProcess):
    """Average velocities, trained as such: samples take one step."""

    num_uniforms = 3

    def __init__(self, config: AverageVelocityConfig, null_class: int | None = None) -> None:
        super().__init__(config, null_class)
        assert isinstance(config.loss, MeanFlowLoss)
        self.loss = config.loss

    def losses(self, model: Model, x_0: Tensor, y: Tensor, *, noise: Tensor, u: Tensor) -> Losses:
        """Return the per-sample losses; see `Process.losses`. Numbers u: two for the times, one for r = t."""
        t, r = draw_times(self.time_law, u, self.loss.equal_share)  # each (B,)
        x_t = self.corrupt(x_0, noise, t)
        velocity = self.guided(model, x_t, t, y, self.prediction.target(self.schedule, t, x_0, noise))
        derivative = self.derivative(model, x_t, t, r, y, along=velocity)
        average = self.average(model, x_t, t, r, y)
        mse = mean_square(average + per_sample(t - r, x_t) * derivative - velocity)
        return Losses(adaptive(mse, x_0[0].numel(), self.loss), t, mse, {"mse": mse})

    @torch.no_grad()
    def guided(self, model: Model, x_t: Tensor, t: Tensor, y: Tensor, velocity: Tensor) -> Tensor:
        """Return v_g (B, C, H, W) for the samples' velocities; v itself outside the interval and for the null class."""
        w, k, (low, high) = self.loss.guidance, self.loss.guidance_mix, self.loss.guidance_interval
        guided = w * velocity
        if w != 1:
            assert self.null_class is not None
            guided = guided + (1 - w) * self.average(model, x_t, t, t, torch.full_like(y, self.null_class))
        if k:
            guided = (1 - k) * guided + k * self.average(model, x_t, t, t, y)
        acts = to_device((t.float() >= low) & (t.float() <= high), y.device)
        if self.null_class is not None:
            acts &= y != self.null_class
        return torch.where(acts[:, None, None, None], guided, velocity)


def draw_times(law: TimeLaw, u: Tensor, equal_share: float) -> tuple[Tensor, Tensor]:
    """Return times t and r <= t, each (B,) float64: the larger and the smaller of two draws; of a share r = t.

    Args:
        law: of both draws.
        u: (B, 3) uniform in [0, 1): of the draws, and whether r = t.
        equal_share: share with r = t.

    Source: Geng et al., 2025, section 4.3.
    """
    first, second = law.draw(u[:, 0]).t, law.draw(u[:, 1]).t
    t = torch.maximum(first, second)
    return t, torch.where(u[:, 2] < equal_share, t, torch.minimum(first, second))


def adaptive(mse: Tensor, num_values: int, loss: MeanFlowLoss | ImfLoss) -> Tensor:
    """Return L / (L + c)^p for mean squares (B,) of so many values each, where L is their sum.

    Source: Geng et al., 2025, equation 22, after Geng et al., "Consistency models made easy", ICLR 2025.
    """
    total = mse * num_values
    return total / (total.detach() + loss.weight_offset) ** loss.weight_power
