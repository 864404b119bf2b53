"""What a frozen encoder sees of an image, and the tokens that it gives for it.

    tokens = network((resize(images) - mean) / std)

B images of 3 x H x W in [0, 1]; T patches, row by row; D features.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dit.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preparation:
    """How images become what an encoder was trained on."""

    size: tuple[int, int]
    """Height and width."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Mean of each colour."""
    std: tuple[float, ...] = IMAGENET_STD
    """Standard deviation of each colour."""
    antialias: bool = True
    """Whether the bicubic filter widens where images shrink, and stays within [0, 1], as in a picture that is saved."""


@dataclass(frozen=True)
class Tokens:
    """What a transformer says of images."""

    patches: Tensor
    """(B, T, D)."""
    class_token: Tensor | None
    """(B, D); None where it has none."""


class Encoder(nn.Module):
    """A network in eval mode, without gradients.

    Args:
        name: what `load_encoder` takes to give it again.
        network: of timm.
        preparation: of its images.
    """

    def __init__(self, name: str, network: nn.Module, preparation: Preparation) -> None:
        super().__init__()
        self.name, self.preparation = name, preparation
        self.network: Any = network
        for key in ("mean", "std"):
            values = torch.tensor(getattr(preparation, key)).view(-1, 1, 1)
            self.register_buffer(key, values, persistent=False)
        self.eval().requires_grad_(False)

    def prepare(self, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1] as the network takes them: (B, 3, *size)."""
        size, antialias = self.preparation.size, self.preparation.antialias
        if images.shape[-2:] != size:
            images = nn.functional.interpolate(images, size=size, mode="bicubic", antialias=antialias)
            if antialias:
                images = images.clamp(0, 1)
        return (images - self.get_buffer("mean")) / self.get_buffer("std")

    def forward(self, images: Tensor) -> Tokens:
        """Describe images (B, 3, H, W) in [0, 1].

        Raises:
            ConfigError: the network is no transformer.
        """
        hidden = self.network.forward_features(self.prepare(images))  # (B, class and registers + T, D)
        if hidden.ndim != 3:
            raise ConfigError(f"{self.name}: expected a vision transformer, found a network without tokens")
        has_class = getattr(self.network, "cls_token", None) is not None
        return Tokens(hidden[:, self.network.num_prefix_tokens :], hidden[:, 0] if has_class else None)
