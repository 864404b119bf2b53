"""Autoencoders that only diffusers has.

B images of `image_channels` x H x W pixels; C latent channels, h x w positions; M moments, 2C (Gaussian) or C.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dit.latents.kind import Autoencoder

PROBE_SIZE = 64  # pixels; the largest downscaling factor there is


class DiffusersAutoencoder(Autoencoder):
    """Any autoencoder of images; its sizes are found out by encoding one small image.

    Args:
        network: of diffusers.

    Raises:
        ValueError: it is not an autoencoder of images with 1 or 3 channels; the message says what it is.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        try:
            self.image_channels = self.network.config.in_channels
            image = torch.zeros(1, self.image_channels, PROBE_SIZE, PROBE_SIZE, dtype=self.network.dtype)
            with torch.no_grad():
                self.is_gaussian = hasattr(self.network.encode(image), "latent_dist")
                moments = self.encode(image)
        except (AttributeError, RuntimeError, ValueError, TypeError) as error:
            raise ValueError(
                f"expected an autoencoder of images, found another: {str(error).splitlines()[0]}"
            ) from None
        if self.image_channels not in (1, 3) or moments.ndim != 4:
            raise ValueError("expected an autoencoder of images with 1 or 3 channels")
        self.num_moments = moments.shape[1]
        self.downscale = PROBE_SIZE // moments.shape[-1]

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, image_channels, H, W) to moments (B, M, h, w)."""
        encoded = self.network.encode(images)
        if self.is_gaussian:
            return encoded.latent_dist.parameters
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent

    def decode(self, z: Tensor) -> Tensor:
        """Decode z (B, C, h, w) to images (B, image_channels, H, W)."""
        return self.network.decode(z).sample

    def decoder_parts(self) -> list[nn.Module]:
        """Return the modules that `decode` runs; none where they are not known."""
        if not isinstance(getattr(self.network, "decoder", None), nn.Module):
            return []
        parts = [getattr(self.network, name, None) for name in ("decoder", "post_quant_conv")]
        return [part for part in parts if isinstance(part, nn.Module)]
