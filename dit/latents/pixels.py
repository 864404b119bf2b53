"""No autoencoder at all: the latents are the pixels, in [-1, 1].

B images, 1 or 3 channels, H x W pixels.
"""

import torch
from torch import Tensor, nn

from dit.latents.kind import Autoencoder


class Pixels(Autoencoder):
    """The identity.

    Args:
        image_channels: 1 (grey) or 3 (RGB).
    """

    is_gaussian = False
    downscale = 1

    def __init__(self, image_channels: int) -> None:
        super().__init__()
        self.image_channels = self.num_moments = image_channels
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # knows the device and the type

    def encode(self, images: Tensor) -> Tensor:
        """Return images (B, channels, H, W) as they are."""
        return images

    def decode(self, z: Tensor) -> Tensor:
        """Return z (B, channels, H, W) as it is."""
        return z
