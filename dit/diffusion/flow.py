"""Continuous time: a regression on what the network is to predict.

Flow matching, the default, predicts the velocity v = d x_t / d t = eps - x_0 along x_t = (1 - t) x_0 + t eps:

    loss = mean over (C, H, W) of (network(x_t, t, y) - v)^2

Other schedules, predictions and weightings of the squared error can be named instead.

Source: Lipman et al., "Flow matching for generative modeling", ICLR 2023, equation 9; for transformers Ma et al.,
"SiT: exploring flow and diffusion-based generative models with scalable interpolant transformers", 2024.
"""

from torch import Tensor

from dit.diffusion.config import FlowConfig
from dit.diffusion.prediction import PREDICTIONS, FlooredDataPrediction
from dit.diffusion.process import Process
from dit.diffusion.schedule import GvpSchedule, LinearSchedule, VpCosineSchedule, VpLinearSchedule
from dit.diffusion.timesteps import create_time_law


class FlowProcess(Process):
    """A regression on a continuous-time schedule."""

    def __init__(self, config: FlowConfig) -> None:
        self.config: FlowConfig = config
        schedules = {
            "linear": LinearSchedule(config.noise_scale),
            "gvp": GvpSchedule(),
            "vp_linear": VpLinearSchedule(),
            "vp_cosine": VpCosineSchedule(),
        }
        self.schedule = schedules[config.schedule]
        floor = config.velocity_floor
        self.prediction = FlooredDataPrediction(floor) if floor else PREDICTIONS[config.prediction]
        self.time_law = create_time_law(config.time_law)
        self.weighting = config.weighting
        self.output_sign = config.output_sign
        self.learn_sigma = config.learn_sigma

    def model_time(self, t: Tensor) -> Tensor:
        """Return time_offset + time_scale t, float32 of t's shape."""
        return (self.config.time_offset + self.config.time_scale * t.double()).float()
