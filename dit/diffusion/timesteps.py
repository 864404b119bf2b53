"""Time laws: the distribution of the training times, as a map from one uniform number per sample to t in (0, 1)."""

import torch
from torch import Tensor

from dit.diffusion.config import LogitNormalTime, UniformTime

# u = 0 would be t = 0, where nothing is left to predict.
_SMALLEST = 2.0**-40


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Move times towards noise (shift > 1) as larger images need.

    Source: Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis", 2024, equation 23.
    """
    return shift * t / (1 + (shift - 1) * t)


def draw_times(law: UniformTime | LogitNormalTime, u: Tensor) -> Tensor:
    """Map uniform numbers u (B,) float64 in [0, 1) to times (B,) float64 in (0, 1) by the law's inverse CDF.

    Source: logit-normal: Esser et al., 2024, equation 19.
    """
    t = u.clamp(_SMALLEST, 1 - _SMALLEST)
    if isinstance(law, LogitNormalTime):
        t = torch.sigmoid(law.mean + law.scale * torch.special.ndtri(t))
    return shift_time(t, law.shift)
