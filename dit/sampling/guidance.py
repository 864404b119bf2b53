"""Classifier-free guidance as a wrapper of a model: u + w (c - u) of its conditional and unconditional outputs.

Source: Ho & Salimans, "Classifier-free diffusion guidance", 2022, equation 6 (with w counted from 1 as off).
"""

import torch
from torch import Tensor

from dit.diffusion.process import Model


def guide(model: Model, *, null_class: int, scale: float, num_channels: int) -> Model:
    """Return a model that guides the first `num_channels` output channels; the others stay the conditional ones.

    Args:
        model: called once with twice the batch: the labels asked for, and the null class, on the same x_t.
        null_class: label of the unconditional branch.
        scale: w; 1 gives the model itself, bit for bit.
        num_channels: leading output channels that are guided; never the variance.
    """
    if scale == 1:
        return model

    def guided(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        null = torch.full_like(y, null_class)
        output = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([y, null]))
        conditional, unconditional = output.chunk(2)
        c, u = conditional[:, :num_channels], unconditional[:, :num_channels]
        return torch.cat([u + scale * (c - u), conditional[:, num_channels:]], dim=1)

    return guided
