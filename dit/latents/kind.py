"""What a codec asks of an autoencoder, whatever its kind.

B images of `image_channels` x H x W pixels in [-1, 1]; C latent channels, h x w positions; M moments, 2C (Gaussian) or
C.
"""

from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Images to moments, and z to images."""

    image_channels: int
    """1 (grey) or 3 (RGB)."""
    num_moments: int
    """M."""
    is_gaussian: bool
    """Whether moments are mean and log-variance, or z itself."""
    downscale: int
    """Pixels per position of z, in height and in width."""
    image_size: int | None = None
    """The only size of images that it makes; None: any multiple of `downscale`."""
    statistics: tuple[Tensor, Tensor] | None = None
    """Mean and standard deviation of z (C, h, w), where its file holds them; those per channel are in config.json."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, image_channels, H, W) to moments (B, M, h, w)."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Decode z (B, C, h, w) to images (B, image_channels, H, W)."""
        raise NotImplementedError

    def decoder_parts(self) -> list[nn.Module]:
        """Return the modules that `decode` runs; none where they are not known, or not made of convolutions."""
        return []
