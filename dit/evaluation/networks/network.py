"""A network of a protocol: how images are resized for it, and the features that it gives by name.

Shapes: B images of H x W, S pixels a side, D features of a kind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dit.errors import DitError

Forward = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, on a device."""

    forward: Forward
    """From images (B, 3, S, S), float32 in 0..255, to features (B, D) by name."""
    weights_sha256: str
    """Hash of the weights."""


@dataclass(frozen=True)
class MetricNetwork:
    """What is known of a network before it is loaded."""

    name: str
    """How reports and references call it."""
    widths: Mapping[str, int]
    """Name of each kind of features -> D."""
    size: int | None
    """S; None: it is for the network to know."""
    resize: Callable[[Tensor, Any], Tensor]
    """Of `dit.evaluation.networks.resize`."""
    load: Callable[[torch.device], LoadedNetwork]
    """Loads it; raises DitError where its weights can't be had."""

    @property
    def preprocessing(self) -> str:
        """How reports and references call the resizing."""
        return self.resize.__name__ if self.size is None else f"{self.resize.__name__} to {self.size}"


@torch.inference_mode()
def describe(network: MetricNetwork, loaded: LoadedNetwork, images: Tensor) -> dict[str, Tensor]:
    """Return the features of images uint8 (B, 3, H, W) by name, float32 (B, D) on the CPU.

    Raises:
        DitError: features that are not finite.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found = loaded.forward(network.resize(images, network.size))
    features = {name: found[name].float().cpu() for name in network.widths}
    for name, values in features.items():
        if not values.isfinite().all():
            raise DitError(
                f"{network.name}: expected finite {name} features, found NaN or infinity; check the images and weights"
            )
    return features
