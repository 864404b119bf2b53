"""Average velocities: one network call crosses any stretch of the path.

u(x_t, r, t) is the mean of the velocity v between the times r < t along the flow,

    u = 1 / (t - r) int_r^t v(x_s, s) ds,   so   x_r = x_t - (t - r) u(x_t, r, t),

and at r = t it is v itself. The network is told r, or the step h = t - r, besides t.

Source: Geng et al., "Mean flows for one-step generative modeling", NeurIPS 2025, equations 3 and 11.
"""

from torch import Tensor

from dit.diffusion.config import AverageVelocityConfig
from dit.diffusion.prediction import VelocityPrediction
from dit.diffusion.process import Process
from dit.diffusion.schedule import LinearSchedule
from dit.diffusion.timesteps import create_time_law


class AverageVelocityProcess(Process):
    """The straight path, with a network that knows two times; trained at r = t, where the average is the velocity."""

    def __init__(self, config: AverageVelocityConfig) -> None:
        self.config: AverageVelocityConfig = config
        self.schedule = LinearSchedule(config.noise_scale)
        self.prediction = VelocityPrediction()
        self.time_law = create_time_law(config.time_law)

    def conditions(self, t: Tensor, until: Tensor) -> dict[str, Tensor]:
        """Return {"r": until} or {"h": t - until}, float32."""
        earlier = until if self.config.condition == "r" else t - until
        return {self.config.condition: earlier.float()}
