"""The decoder of an autoencoder in the form that is fastest: bfloat16 and channels last, where that pays.

A convolution kernel wants the channels of a pixel side by side; in the usual layout every layer reorders its input and
its output. Pictures change by at most a few of 255 levels, through rounding.
"""

from typing import Any

import torch
from torch import nn

from dit.layers.precision import bf16_pays


def speed_up_decoder(vae: Any, device: torch.device) -> torch.dtype:
    """Convert the decoder of a diffusers autoencoder in place, where that pays, and return the type it computes in.

    Args:
        vae: with `decoder` and, mostly, `post_quant_conv`; others are left as they are.
        device: where it computes.
    """
    parts = [part for name in ("decoder", "post_quant_conv") if isinstance(part := getattr(vae, name, None), nn.Module)]
    dtype = next(vae.parameters()).dtype
    if not parts or dtype != torch.float32 or not hasattr(vae, "decoder"):
        return dtype
    convolutions = [module for part in parts for module in part.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions or not bf16_pays(device, max(module.out_channels for module in convolutions)):
        return dtype
    for part in parts:
        part.to(torch.bfloat16, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return torch.bfloat16
