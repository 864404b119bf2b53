"""Features of a frozen image encoder, cached as latents are: the moments of a cache are an encoder's patch features.

    FOLDER/features/train-...     as `dit.latents.shards` says, M = D features of h x w patches, in bfloat16

B images; D features of h x w patches; T = h w.
"""

import hashlib
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from itertools import tee
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit.data.request import Request
from dit.encoders.load import load_encoder
from dit.errors import ConfigError
from dit.files import sha256
from dit.latents.config import LatentsConfig
from dit.latents.dataset import LatentDataset
from dit.latents.image_dataset import ImageDataset
from dit.latents.read_ahead import Rows
from dit.latents.shards import Index, read_index
from dit.latents.stored import cache_names

TrainingSplit = LatentDataset | ImageDataset
"""What training reads latents of."""
FIELD, FOLDER_NAME = "objective.auxiliary: alignment.features", "features"
"""Beside the latents, in the folder of a cache."""


class FeatureEncoder:
    """What an encoding asks of a codec, by a frozen encoder.

    Args:
        name: what `load_encoder` takes.
        side: patches in a row that images are resized to.
        image_channels: 1 (grey) or 3 (RGB), as the latents' autoencoder reads the images; the encoder sees grey as RGB.
        device: where to compute.

    Raises:
        ConfigError: there is no such encoder.
        DitError: its weights can't be had or are damaged.
    """

    def __init__(self, name: str, side: int, *, image_channels: int, device: str | torch.device) -> None:
        self.encoder = load_encoder(name, device, field="--features", grid=(side, side))
        self.side, self.image_channels, self.device = side, image_channels, torch.device(device)
        self.num_moments = self.latent_channels = int(self.encoder.network.num_features)
        self.fingerprint = fingerprint_of(name, (side, side))

    def latent_size(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
        """Return h and w, which no size of an image changes."""
        return self.side, self.side

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the features (B, D, h, w) of images (B, channels, H, W) uint8."""
        patches = self.encoder(images.float() / 255).patches  # (B, T, D)
        return patches.float().transpose(1, 2).unflatten(2, (self.side, self.side))


def features_config(latents: LatentsConfig, name: str, folder: Path) -> LatentsConfig:
    """Return the section by which the features of an encoder are encoded beside the latents in a folder."""
    changes = {"vae": name, "cache": str(folder / FOLDER_NAME), "storage": "bfloat16"}
    return latents.model_copy(update=changes)


def fingerprint_of(name: str, grid: tuple[int, int]) -> str:
    """Return a hash of what features depend on besides images: an encoder, by its weights in a folder, and a grid."""
    weights = Path(name).expanduser() / "model.safetensors"
    known = sha256(weights) if weights.is_file() else name
    return hashlib.sha256(f"patches {known} {grid}".encode()).hexdigest()


def open_features(folder: str, images: TrainingSplit, name: str, grid: tuple[int, int], *, flip: bool) -> LatentDataset:
    """Open the features that `dit encode --features` wrote of a training split.

    Args:
        folder: what it was told by --out.
        images: the split.
        name: of the encoder.
        grid: rows and columns of the network's tokens.
        flip: whether mirrored images are needed too.

    Raises:
        ConfigError: there are none, or of other images, of another encoder or of another size.
        DitError: they are damaged.
    """
    problems = []
    for path in feature_caches(folder):
        problem = _problem(read_index(path), images, name, grid, flip=flip)
        if problem is None:
            return LatentDataset(path).take(images.rows)
        problems.append(f"{path}: {problem}")
    raise ConfigError(f"{FIELD}: {problems[-1]}")


def feature_caches(folder: str) -> list[Path]:
    """Return the caches of features of training splits in a folder.

    Raises:
        ConfigError: there are none.
    """
    caches = Path(folder).expanduser() / FOLDER_NAME
    names = sorted(path.name for path in caches.iterdir()) if caches.is_dir() else []
    if found := [caches / name for name in cache_names(names, "train")]:
        return found
    raise ConfigError(f"{FIELD}: expected features that dit encode --features wrote, found none in {caches}")


def _problem(index: Index, images: TrainingSplit, name: str, grid: tuple[int, int], *, flip: bool) -> str | None:
    """Return why features are not those that are needed, in words; None where they are."""
    identity, found = index.identity, index.latents_shape[1:]
    if identity.data != images.images_fingerprint or index.skipped != images.skipped:
        return f"expected features of the images of data.source, found those of others ({index.source})"
    if index.vae != name:
        return f"expected features of {name}, found those of {index.vae}"
    if found != grid:
        return (
            f"expected features of {grid[0]} x {grid[1]} patches, as the network has tokens, found {found[0]} x "
            f"{found[1]}; encode them with --features_grid {grid[0]}"
        )
    if identity.vae != fingerprint_of(name, grid):
        return f"expected features of the weights that are in {name}, found those of others"
    if flip and not identity.flip:
        return "expected features of mirrored images too (data.flip), found none; encode them with --flip"
    return None


class WithFeatures:
    """A training split whose batches hold features too, read ahead like the latents.

    Args:
        dataset: latents or images.
        features: of the same samples.
    """

    def __init__(self, dataset: TrainingSplit, features: LatentDataset) -> None:
        self._dataset, self._features = dataset, features
        self.class_names, self.num_classes = dataset.class_names, dataset.num_classes
        self.latents_shape, self.num_features = dataset.latents_shape, features.moments_shape[0]
        both = dataset.fingerprint + features.fingerprint
        self.fingerprint = hashlib.sha256(both.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def part_sizes(self) -> np.ndarray:
        """(P,) number of samples in each part of the latents."""
        return self._dataset.part_sizes

    def read(self, requests: Iterable[Request], *, pin_memory: bool = False) -> Generator[Rows]:
        """Answer requests in order, reading ahead until the generator is closed."""
        ours, theirs = tee(requests)
        with (
            closing(self._dataset.read(ours, pin_memory=pin_memory)) as latents,
            closing(self._features.read(theirs, pin_memory=pin_memory)) as features,
        ):
            for rows, found in zip(latents, features, strict=True):
                yield replace(rows, features=found.moments)
