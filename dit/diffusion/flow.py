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
from dit.diffusion.process import Losses, Model, Process, mean_square, weighted
from dit.diffusion.schedule import SCHEDULES, LinearSchedule
from dit.diffusion.timesteps import create_time_law
from dit.diffusion.weighting import loss_weight


class FlowProcess(Process):
    """A regression on a continuous-time schedule."""

    def __init__(self, config: FlowConfig) -> None:
        self.config = config
        self.schedule = SCHEDULES[config.schedule]
        if config.noise_scale != 1:
            self.schedule = LinearSchedule(config.noise_scale)
        self.prediction = PREDICTIONS[config.prediction]
        if config.velocity_floor:
            self.prediction = FlooredDataPrediction(config.velocity_floor)
        self.time_law = create_time_law(config.time_law)
        self.weighting = config.weighting
        self.time_scale = config.time_scale
        self.time_offset = config.time_offset
        self.output_sign = config.output_sign
        self.learn_sigma = config.learn_sigma

    def losses(self, model: Model, x_0: Tensor, y: Tensor, *, noise: Tensor, u: Tensor) -> Losses:
        """Return the weighted squared error of the prediction; see `Process.losses`."""
        times = self.time_law.draw(u)
        t = times.t  # (B,)
        x_t = self.corrupt(x_0, noise, t)
        output, _ = self.split(model(x_t, self.model_time(t).to(x_t.device), y))
        target = self.prediction.target(self.schedule, t, x_0, noise)
        weight = loss_weight(self.weighting, self.schedule, self.prediction, t)
        return weighted(weight.to(x_0) * mean_square(output - target), times)
