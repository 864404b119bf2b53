"""Data sources by name: `data.source: NAME` or `NAME:ARGUMENT`; mnist is one, a user's own file registers others.

    @dit.register_data("rings")
    def rings(config, split, channels, argument):
        images, labels = ...                      # (N, H, W, 3) uint8, (N,) int64
        return images_in_memory(images, labels, ("one ring", "two rings"), config, channels)

`images_in_memory` is in `dit.data.image_source`, like `ImageSource`, which reads images one by one from anywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dit.data.config import DataConfig
from dit.errors import ConfigError

if TYPE_CHECKING:
    from dit.data.image_source import ImageSource

Factory = Callable[[DataConfig, str, int | None, str], "ImageSource"]


@dataclass(frozen=True)
class RegisteredData:
    """A data source that is known by its name."""

    factory: Factory
    """Opens one split."""
    features: str | None
    """Feature extractor that measures samples of a model of it, where a recipe names none."""
    hub_id: str | None
    """The same data on the Hub, for the cards of models."""


_REGISTERED: dict[str, RegisteredData] = {}


def register_data(name: str, *, features: str | None = None, hub_id: str | None = None) -> Callable[[Factory], Factory]:
    """Return a decorator that makes a function the data source `name`; a later one of the same name replaces it.

    The function is called as `factory(config, split, channels, argument)`, for each split when it is opened:

    - config: recipe section `data`; `image_size`, `val_fraction` and `split_seed` are to be kept to.
    - split: "train" or "val"; no image may be in both (`dit.data.split.held_out` divides reproducibly).
    - channels: 1 (grey) or 3 (RGB), as the autoencoder wants them; None: as the data have them.
    - argument: what follows `NAME:` in `data.source`, or "".

    It returns an `ImageSource`: class_names; labels (N,) int64, rows of class_names; channels; a fingerprint that
    changes with any pixel or label (cached latents are found by it); `read(i)` -> (image_size, image_size, channels)
    uint8 in 0..255, safe to call from several processes; and, for `data.crop: random`, `read_at(i, place)`.

    Args:
        name: letters, digits and underscores; a file or folder of that name goes before it.
        features: feature extractor that measures samples of a model of it, where a recipe names none.
        hub_id: the same data on the Hub, for the cards of models.
    """
    if not name.isidentifier():
        raise ValueError(f"register_data: expected a name of letters, digits and underscores, found {name!r}")

    def register(factory: Factory) -> Factory:
        _REGISTERED[name] = RegisteredData(factory, features, hub_id)
        return factory

    return register


def find_data(source: str) -> RegisteredData | None:
    """Return the registered data that `data.source` names; None where there is none, or a file of that name."""
    return None if Path(source).exists() else _REGISTERED.get(source.partition(":")[0])


def data_names() -> list[str]:
    """List the registered names."""
    return list(_REGISTERED)


@register_data("mnist", features="mnist", hub_id="ylecun/mnist")
def _mnist(config: DataConfig, split: str, channels: int | None, argument: str) -> "ImageSource":
    from dit.data.image_source import images_in_memory
    from dit.data.mnist import CLASS_NAMES, mnist_images

    if argument:
        raise ConfigError(f"data.source: expected mnist, which takes no argument, found {config.source!r}")

    images, labels = mnist_images(split)
    return images_in_memory(images, labels, CLASS_NAMES, config, channels)
