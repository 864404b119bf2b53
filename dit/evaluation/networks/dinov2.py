"""DINOv2 ViT-L/14 without registers, in which FD-DINOv2 is published: timm's network with the original's positions.

The original resamples its 37 x 37 positions to 16 x 16 patches by plain bicubic interpolation with a scale of
(16 + 0.1) / 37. timm's own antialiased resampling moves the features by 2 to 3%.

Source: Oquab et al., "DINOv2", 2023, `interpolate_pos_encoding` of its published code; Stein et al., "Exposing flaws of
generative model evaluation metrics", 2023.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dit.encoders.encoder import Encoder
from dit.encoders.load import load_encoder
from dit.evaluation.networks.network import LoadedNetwork
from dit.evaluation.networks.weights import tensors_sha256

NAME = "timm/vit_large_patch14_dinov2.lvd142m"
WIDTHS = {"class_token": 1024}
SIZE = 224
OFFSET = 0.1


def load_dinov2(device: torch.device) -> LoadedNetwork:
    """Load it through timm, which downloads its weights from the Hub the first time.

    Raises:
        DitError: its weights can't be had.
    """
    encoder = load_encoder(NAME, field="dinov2")
    weights = tensors_sha256(encoder.network.state_dict().items())
    encoder = with_published_positions(encoder, SIZE).to(device)
    return LoadedNetwork(lambda images: {"class_token": class_token(encoder, images)}, weights)


def class_token(encoder: Encoder, images: Tensor) -> Tensor:
    """Return the class token after the last norm (B, D) of images (B, 3, S, S) in 0..255."""
    found = encoder(images / 255).class_token
    assert found is not None
    return found


def with_published_positions(encoder: Encoder, size: int) -> Encoder:
    """Let an encoder of timm take images of `size` pixels, with the positions that the original has for them."""
    network: Any = encoder.network
    positions: Tensor = network.pos_embed  # (1, 1 + T, D): that of the class token, those of the patches
    old, new = network.patch_embed.grid_size[0], size // network.patch_embed.patch_size[0]
    grid = positions[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, D, old, old)
    grid = nn.functional.interpolate(grid, scale_factor=(new + OFFSET) / old, mode="bicubic")
    patches = grid.permute(0, 2, 3, 1).flatten(1, 2)  # (1, T, D)
    network.set_input_size((size, size))
    network.pos_embed = nn.Parameter(torch.cat([positions[:, :1], patches], dim=1), requires_grad=False)
    encoder.preparation = replace(encoder.preparation, size=(size, size))
    return encoder
