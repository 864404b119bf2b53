"""Images of one split with their labels: what every data source, also one that is registered, is read through."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dit.data.config import DataConfig
from dit.data.decode import crop, to_mode


@dataclass(frozen=True)
class ImageSource:
    """The images of one split."""

    class_names: tuple[str, ...]
    """Name of each class; empty for a source without labels, whose labels are all 0."""
    labels: np.ndarray
    """(N,) int64 class of each image."""
    channels: int
    """1 (grey) or 3 (RGB)."""
    fingerprint: str
    """Hash of everything that `read` and `labels` depend on."""
    rejected: tuple[str, ...]
    """Messages about records that `data.on_error: skip` left out because of their label."""
    read: Callable[[int], np.ndarray]
    """Decodes one image: (image_size, image_size, channels) uint8; safe to call from several processes.

    Raises DitError: the image is empty, broken, too large or gone; the message names it.
    """
    name: Callable[[int], str] = "image {}".format
    """Names the file or the record of one image."""
    read_at: Callable[[int, float], np.ndarray] | None = None
    """As `read`, with the square cut out at a place in [0, 1) along the longer side; None: it can't be chosen."""

    def __len__(self) -> int:
        return len(self.labels)


def images_in_memory(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    config: DataConfig,
    channels: int | None = None,
) -> ImageSource:
    """Make a source of images that are in memory: each is cut and scaled to a square when it is read.

    Args:
        images: (N, H, W) grey or (N, H, W, 3) RGB, uint8.
        labels: (N,) int64, rows of `class_names`; zeros for images without classes.
        class_names: name of each class; none for images without classes.
        config: recipe section `data`.
        channels: 1 or 3; None: as the images have them.
    """
    channels = channels or (3 if images.ndim == 4 else 1)
    size = config.image_size

    def read(index: int, place: float | None = None) -> np.ndarray:
        image = to_mode(Image.fromarray(images[index]), channels, name=f"{config.source} {index}")
        return np.asarray(crop(image, size, place)).reshape(size, size, channels)

    content = hashlib.sha256(images.tobytes()).hexdigest()
    fingerprint = fingerprint_of(config, channels, content, labels, class_names)
    return ImageSource(class_names, labels, channels, fingerprint, (), read, read_at=read)


def fingerprint_of(
    config: DataConfig,
    channels: int,
    content: str,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    rows: np.ndarray | None = None,
) -> str:
    """Hash everything that the pixels and labels of a split depend on; `content` stands for the files."""
    facts = [config.image_size, channels, config.image_column, content, class_names]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(labels.tobytes())
    digest.update(b"" if rows is None else rows.tobytes())
    return digest.hexdigest()
