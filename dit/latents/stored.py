"""`data.source` that names latents instead of images: a cache of `dit encode`, here or at an address, or of others.

A cache's own split is kept: `dit encode --out OUT` leaves OUT/train-... and OUT/val-... . Latents of others have none;
`data.val_fraction` of every class is held out of them, as of images.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dit.data.config import DataConfig
from dit.data.split import held_out
from dit.display import warn
from dit.errors import ConfigError, DitError
from dit.latents.codec import Codec
from dit.latents.config import LatentsConfig
from dit.latents.dataset import LatentDataset
from dit.latents.peers.formats import open_peer
from dit.latents.remote import Address, is_address, open_remote
from dit.latents.shards import INDEX_NAME
from dit.launcher import is_main

ALIKE = 0.1
"""Statistics of latents may differ from an autoencoder's by this share of a deviation: they are of other images."""


@dataclass(frozen=True)
class StoredLatents:
    """Both splits of latents that are there already."""

    train: LatentDataset
    """Training split."""
    val: LatentDataset
    """Held-out split, which may be empty."""
    statistics: tuple[Tensor, Tensor] | None = None
    """Mean and standard deviation (C,) that they come with."""

    def check(self, data: DataConfig, codec: Codec, *, is_measured: bool) -> None:
        """Refuse latents of another autoencoder, size or normalisation than the recipe names.

        Args:
            data: recipe section.
            codec: of the recipe's `latents.vae`.
            is_measured: whether `latents.normalise` is measured.

        Raises:
            ConfigError: they have other channels or another size, or no mirrored images where they are needed.
            DitError: they are of another autoencoder.
        """
        index, folder = self.train.index, self.train.folder
        num_channels, height, width = index.latents_shape
        if codec.latent_channels != num_channels:
            raise ConfigError(
                f"latents.vae {codec.folder.source!r}: expected an autoencoder of {num_channels} channels, as the "
                f"latents in {folder} have, found one of {codec.latent_channels}"
            )
        if codec.latent_size(data.image_size) != (height, width):
            raise ConfigError(
                f"data.image_size: expected {height * codec.downscale}, for the latents in {folder} are {height} x "
                f"{width}, found {data.image_size}"
            )
        if data.flip and not index.identity.flip:
            raise ConfigError(f"data.flip: expected latents with mirrored images, found none in {folder}")
        if index.identity.vae not in ("unknown", codec.fingerprint):
            raise DitError(
                f"{folder}: expected latents of the autoencoder with fingerprint {codec.fingerprint} "
                f"({codec.folder.source}), found those of {index.identity.vae} ({index.vae}); name that one in "
                "latents.vae"
            )
        if self.statistics is not None and not is_measured:
            self._compare_statistics(codec)
        if index.skipped and is_main():
            warn(f"{folder}: {len(index.skipped)} bad images were left out when it was encoded")

    def _compare_statistics(self, codec: Codec) -> None:
        assert self.statistics is not None
        mean, std = self.statistics
        shift, scale = (value.double().cpu().mean(dim=(1, 2)) for value in (codec.shift, codec.scale))
        if ((mean - shift).abs() > ALIKE * std).any() or ((std * scale).log().abs() > ALIKE).any():
            raise DitError(
                f"{self.train.folder}: its statistics (mean {mean[0]:.4g}, deviation {std[0]:.4g} of channel 0) are "
                f"not the normalisation of latents.vae {codec.folder.source!r} ({shift[0]:.4g}, {1 / scale[0]:.4g}); "
                "name the autoencoder that made the latents, or set latents.normalise to measured"
            )


def open_stored(data: DataConfig, latents: LatentsConfig) -> StoredLatents | None:
    """Open the latents that `data.source` names; None where it names no latents.

    Args:
        data: recipe section.
        latents: recipe section; where copies of latents at an address are kept, and how many.

    Raises:
        ConfigError: there are several caches, or no place for copies.
        DitError: they are damaged or hostile; the file is named.
    """
    if is_address(data.source):
        stored = _open_address(data, latents)
    elif (path := Path(data.source).expanduser()).is_dir():
        names = sorted(found.name for found in path.iterdir())
        stored = _open_caches(names, data, lambda name: LatentDataset(path / name)) or _open_peer(path, data)
    else:
        stored = _open_peer(path, data) if path.is_file() else None
    if stored is None or data.limit is None:
        return stored
    return StoredLatents(_limited(stored.train, data.limit), _limited(stored.val, data.limit), stored.statistics)


def cache_names(names: Iterable[str], split: str) -> list[str]:
    """Return which of the names in a folder are caches of a split."""
    return [name for name in names if re.fullmatch(rf"{split}-[0-9a-f]{{24}}", name)]


def _open_address(data: DataConfig, latents: LatentsConfig) -> StoredLatents:
    address = Address(data.source)
    num_open = data.shuffle_window if data.shuffle == "shards" else None
    limit = round(latents.cache_limit * 1e9)

    def open_cache(name: str) -> LatentDataset:
        return open_remote(address, name, cache=latents.cache, limit=limit, num_open=num_open)

    if (stored := _open_caches(address.names(), data, open_cache)) is None:
        raise ConfigError(f"data.source {data.source}: expected latents that `dit encode` wrote, found none there")
    return stored


def _open_caches(
    names: list[str], data: DataConfig, open_cache: Callable[[str], LatentDataset]
) -> StoredLatents | None:
    """Open both splits of a cache in a folder with these names; None where there is none."""
    found = {split: [""] if INDEX_NAME in names else cache_names(names, split) for split in ("train", "val")}
    for split, caches in found.items():
        if len(caches) > 1:
            raise ConfigError(
                f"data.source {data.source}: expected one cache of the split {split}, found {', '.join(caches)}; move "
                "the others away, or name that of the training"
            )
    if not found["train"]:
        return None
    train = open_cache(found["train"][0])
    if found["val"] in ([], [""]):
        return StoredLatents(train, train.take(np.zeros(0, dtype=np.int64)))
    val = open_cache(found["val"][0])
    facts = [(part.index.identity.vae, part.latents_shape, part.class_names) for part in (train, val)]
    if facts[0] != facts[1]:
        raise DitError(
            f"data.source {data.source}: expected held-out latents of the autoencoder and classes of {train.folder}, "
            f"found others in {val.folder}; move them away"
        )
    return StoredLatents(train, val)


def _open_peer(path: Path, data: DataConfig) -> StoredLatents | None:
    if (peer := open_peer(path)) is None:
        return None
    whole = LatentDataset(path, peer.index, peer.open_part)
    labels = whole.labels
    chosen = held_out(labels, round(len(labels) * data.val_fraction), seed=data.split_seed)
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    return StoredLatents(whole.take(rest), whole.take(chosen), peer.statistics)


def _limited(dataset: LatentDataset, limit: int) -> LatentDataset:
    """Return so many samples, evenly spread, for they are often sorted by class."""
    return dataset if limit >= len(dataset) else dataset.take(np.arange(limit) * len(dataset) // limit)
