"""What an encoding is to make: which moments, in what folder, in which parts.

A part is a fixed range of rows in whole batches, the last one filled up; so its bytes depend neither on the number of
processes nor on interruptions, and nothing but it is lost when it is cut off.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dit.data.config import DataConfig
from dit.data.image_source import ImageSource
from dit.data.images import open_images
from dit.files import TEMPORARY_PREFIX, cache_folder
from dit.latents.config import LatentsConfig
from dit.latents.shards import Identity, Index, PartEntry

PART_ROWS, PART_BYTES = 1024, 2**26  # most of a part: processes share the work, a part is held in memory


class EncodesImages(Protocol):
    """What an encoding asks of a codec, or of a frozen encoder."""

    image_channels: int
    """1 (grey) or 3 (RGB)."""
    num_moments: int
    """M."""
    latent_channels: int
    """C."""
    fingerprint: str
    """Hash of architecture and weights."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def latent_size(self, image_size: int, /) -> tuple[int, int]:
        """Return h and w of the moments of an image, or refuse its size."""
        ...

    def encode(self, images: Tensor, /) -> Tensor:
        """Return the moments (B, M, h, w) float32 of images (B, channels, H, W) uint8."""
        ...


@dataclass(frozen=True)
class Plan:
    """Everything that decides the moments of one split, and where they go."""

    images: ImageSource
    codec: EncodesImages
    data: DataConfig
    latents: LatentsConfig
    split: str

    @cached_property
    def identity(self) -> Identity:
        """What the moments depend on."""
        return Identity(
            data=self.images.fingerprint,
            vae=self.codec.fingerprint,
            flip=self.data.flip and self.split == "train",
            storage=self.latents.storage,
            precision=self.latents.precision,
            batch_size=self.latents.batch_size,
        )

    @cached_property
    def target(self) -> Path:
        """Folder of the finished cache."""
        caches = cache_folder("latents") if self.latents.cache is None else Path(self.latents.cache).expanduser()
        return caches / f"{self.split}-{self.identity.name[:24]}"

    @cached_property
    def working(self) -> Path:
        """Folder of finished parts, which becomes the target; it is never continued with another identity."""
        return self.target.parent / f"{TEMPORARY_PREFIX}{self.target.name}.{self.identity.fingerprint[:16]}"

    @property
    def latents_shape(self) -> tuple[int, int, int]:
        """C, h, w of a latent."""
        return (self.codec.latent_channels, *self.codec.latent_size(self.data.image_size))

    @property
    def storage(self) -> torch.dtype:
        """Type of the stored moments."""
        return getattr(torch, self.latents.storage)

    @property
    def image_bytes(self) -> int:
        """What an image takes on the disk."""
        _, height, width = self.latents_shape
        return (1 + self.identity.flip) * self.codec.num_moments * height * width * self.storage.itemsize

    @cached_property
    def parts(self) -> list[range]:
        """Rows of each part."""
        batch_size, num_rows = self.latents.batch_size, len(self.images)
        size = max(1, min(PART_BYTES // self.image_bytes, PART_ROWS) // batch_size) * batch_size
        return [range(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]

    def index(self, entries: tuple[PartEntry, ...], skipped: tuple[str, ...]) -> Index:
        """Return the content of index.json: nothing in it depends on when and where the parts were made."""
        return Index(
            fingerprint=self.identity.fingerprint,
            identity=self.identity,
            source=f"{self.data.source} ({self.split})",
            vae=self.latents.vae,
            image_size=self.data.image_size,
            latents_shape=self.latents_shape,
            num_moments=self.codec.num_moments,
            class_names=self.images.class_names,
            parts=entries,
            skipped=skipped,
        )


def make_plan(data: DataConfig, latents: LatentsConfig, codec: EncodesImages, split: str) -> Plan:
    """Open the images of a split and plan their encoding.

    Raises:
        ConfigError: the images can't be encoded with this autoencoder.
    """
    codec.latent_size(data.image_size)
    return Plan(open_images(data, split, channels=codec.image_channels), codec, data, latents, split)
