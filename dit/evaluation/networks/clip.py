"""CLIP ViT-L/14 at 336 pixels, in which CMMD is published: timm's image tower, projected and scaled to length 1."""

import torch

from dit.encoders.encoder import Encoder
from dit.encoders.load import load_encoder
from dit.evaluation.networks.network import LoadedNetwork
from dit.evaluation.networks.weights import tensors_sha256

NAME = "timm/vit_large_patch14_clip_quickgelu_336.openai"
WIDTHS = {"projection": 768}
SIZE = 336


def load_clip(device: torch.device) -> LoadedNetwork:
    """Load it through timm, which downloads its weights from the Hub the first time.

    Raises:
        DitError: its weights can't be had.
    """
    encoder = load_encoder(NAME, device, field="clip")
    weights = tensors_sha256(encoder.network.state_dict().items())
    return LoadedNetwork(lambda images: {"projection": projection(encoder, images)}, weights)


def projection(encoder: Encoder, images: torch.Tensor) -> torch.Tensor:
    """Return the projection (B, D), of length 1, of images (B, 3, S, S) in 0..255."""
    return torch.nn.functional.normalize(encoder.network(encoder.prepare(images / 255)), dim=1)
