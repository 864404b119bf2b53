"""Denoising at any noise level, with a network whose inputs and outputs are scaled to unit variance.

x_t = x_0 + sigma eps with sigma = sigma_max t; the data are read off the network F as

    D(x_t) = c_skip x_t + c_out F(c_in x_t, ln(sigma) / 4),   c_in = (sigma^2 + s^2)^(-1/2),

and the loss weight of the data, 1 / c_out^2, makes it the plain square error of F.

Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, section 5 and
table 1.
"""

import math

from torch import Tensor

from dit.diffusion.config import EdmConfig
from dit.diffusion.prediction import PreconditionedPrediction
from dit.diffusion.process import Process
from dit.diffusion.schedule import ExplodingSchedule
from dit.diffusion.timesteps import LogNormalLaw


class EdmProcess(Process):
    """A regression on the preconditioned output."""

    def __init__(self, config: EdmConfig) -> None:
        self.config: EdmConfig = config
        self.schedule = ExplodingSchedule(config.sigma_max)
        self.prediction = PreconditionedPrediction(config.sigma_data)
        self.time_law = LogNormalLaw(config.time_law.mean - math.log(config.sigma_max), config.time_law.scale)

    def model_time(self, t: Tensor) -> Tensor:
        """Return ln(sigma) / 4, float32 of t's shape; a sigma of 1e-12 stands for none."""
        return (self.schedule.sigma(t.double()).clamp(min=1e-12).log() / 4).float()

    def input_scale(self, t: Tensor) -> Tensor:
        """Return c_in."""
        return (self.schedule.sigma(t.double()) ** 2 + self.config.sigma_data**2).rsqrt()
