"""The decoder of an autoencoder in the form that is fastest: bfloat16 and channels last, where that pays.

A convolution kernel wants the channels of a pixel side by side; in the usual layout every layer reorders its input and
its output. Convolutions of enlarged images are merged with the enlarging. Pictures change by at most a few of 255
levels, through rounding.
"""

import torch
from torch import nn

from dit.latents.kind import Autoencoder
from dit.latents.kl import Upsample
from dit.layers.precision import bf16_pays


def speed_up_decoder(autoencoder: Autoencoder, device: torch.device) -> torch.dtype:
    """Convert the decoder of an autoencoder in place, where that pays, and return the type it computes in.

    Args:
        autoencoder: one whose parts are not known is left as it is.
        device: where it computes.
    """
    parts, dtype = autoencoder.decoder_parts(), next(autoencoder.parameters()).dtype
    if not parts or dtype != torch.float32:
        return dtype
    convolutions = [module for part in parts for module in part.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions or not bf16_pays(device, max(module.out_channels for module in convolutions)):
        return dtype
    for part in parts:
        for module in part.modules():
            if isinstance(module, Upsample):
                module.merge(torch.bfloat16)
        part.to(torch.bfloat16, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return torch.bfloat16
