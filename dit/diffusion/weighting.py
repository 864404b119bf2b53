"""Loss weightings: how much the squared error counts at each time.

Errors in the data, the noise and any prediction o = a x_0 + b eps of one x_t are proportional, so a weight w on the
error of eps is the weight w (alpha / d)^2 on the error of o, with d = alpha b - sigma a. Weights are stated for the
error of eps by the log-SNR; SNR = alpha^2 / sigma^2.
"""

import torch
from torch import Tensor

from dit.diffusion.config import (
    EdmWeighting,
    MinSnrWeighting,
    SigmoidWeighting,
    UniformWeighting,
    VelocityWeighting,
)
from dit.diffusion.prediction import Prediction
from dit.diffusion.schedule import Schedule

Weighting = UniformWeighting | VelocityWeighting | MinSnrWeighting | SigmoidWeighting | EdmWeighting


def loss_weight(weighting: Weighting, schedule: Schedule, prediction: Prediction, t: Tensor) -> Tensor:
    """Return the weight of the squared error of the prediction at times t (B,) in (0, 1): (B,) float64."""
    if isinstance(weighting, UniformWeighting):
        return torch.ones_like(t)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    a, b = prediction.coefficients(schedule, t)
    if isinstance(weighting, VelocityWeighting):
        # Errors of two outputs of one x_t are as their d, and the velocity's is alpha sigma' - sigma alpha'.
        of_velocity = alpha * schedule.d_sigma(t) - sigma * schedule.d_alpha(t)
        return (of_velocity / (alpha * b - sigma * a)) ** 2
    return eps_weight(weighting, alpha, sigma) * (alpha / (alpha * b - sigma * a)) ** 2


def eps_weight(weighting: MinSnrWeighting | SigmoidWeighting | EdmWeighting, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the weight of the squared error of eps.

    Source: min-SNR: Hang et al., "Efficient diffusion training via min-SNR weighting strategy", ICCV 2023, section 3.4.
    Sigmoid: Kingma & Gao, "Understanding diffusion objectives as the ELBO with simple data augmentation", NeurIPS 2023,
    the weight of the loss per unit of log-SNR; the time law stands for the density of the log-SNR. EDM: Karras et al.,
    "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, table 1, whose noise level is
    sigma / alpha.
    """
    snr = (alpha / sigma) ** 2
    if isinstance(weighting, MinSnrWeighting):
        return snr.clamp(max=weighting.gamma) / snr
    if isinstance(weighting, SigmoidWeighting):
        return torch.sigmoid(weighting.bias - snr.log())
    return 1 + 1 / (snr * weighting.sigma_data**2)
