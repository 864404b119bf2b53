"""Images of one split with their labels, each decoded to a square of 8-bit pixels when it is asked for.

    images = open_images(DataConfig(source="mnist", image_size=32), "train")
    images.read(0)      # (32, 32, 1) uint8
    images.labels[0]    # 0, a row of images.class_names

Held-out images come in a shuffled order, so that any prefix of them is a fair sample; training images come in the
order of the source (`dit.data.order` decides which one a step uses).
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dit.data.config import DataConfig
from dit.data.decode import decode_image
from dit.data.image_source import ImageSource, fingerprint_of
from dit.data.imagenet import in_words
from dit.data.labels import Labels, read_labels
from dit.data.registry import find_data
from dit.data.split import held_out
from dit.data.tars import name_member, read_member
from dit.errors import ConfigError, DitError

if TYPE_CHECKING:
    from datasets import Dataset


def open_images(config: DataConfig, split: str = "train", *, channels: int | None = None) -> ImageSource:
    """Open the training or the held-out images of a data set.

    Args:
        config: recipe section `data`.
        split: "train" or "val". Where the source has no held-out split, `val_fraction` of the training split is held
            out (a pure function of split_seed, index and label) and left out of "train".
        channels: 1 or 3; None: as a registered source has them (mnist: 1), and 3 for everything else.

    Returns:
        The images; a held-out split may be empty (val_fraction 0), a training split is not.

    Raises:
        ConfigError: the source, split or column is not there.
        DitError: a label is missing or out of range, or there is no image.
    """
    assert split in ("train", "val"), split
    if source := find_data(config.source):
        images = source.factory(config, split, channels, config.source.partition(":")[2])
        _check_registered(images, config, channels)
    else:
        images = _open_tables(config, split, channels or 3)
    return images if config.limit is None or config.limit >= len(images) else _spread(images, config.limit)


def _spread(images: ImageSource, limit: int) -> ImageSource:
    """Return so many images, evenly spread, for sources are often sorted by class."""
    rows, read_at = np.arange(limit) * len(images) // limit, images.read_at
    return replace(
        images,
        labels=images.labels[rows],
        fingerprint=f"{images.fingerprint}:{limit}",
        read=lambda index: images.read(int(rows[index])),
        name=lambda index: images.name(int(rows[index])),
        read_at=read_at and (lambda index, place: read_at(int(rows[index]), place)),
    )


def _check_registered(images: ImageSource, config: DataConfig, channels: int | None) -> None:
    """Hold what a factory returned to its contract, for it may be a user's own."""
    labels, last = np.asarray(images.labels), max(0, len(images.class_names) - 1)
    shape = (config.image_size, config.image_size, channels or images.channels)
    first = np.asarray(images.read(0)) if len(labels) else np.zeros(shape, np.uint8)
    are_rows = labels.ndim == 1 and labels.dtype.kind in "iu" and bool(((labels >= 0) & (labels <= last)).all())
    if not are_rows or shape[2] not in (1, 3) or (first.dtype, first.shape) != (np.uint8, shape):
        values = labels.ravel().tolist() or [0]
        raise DitError(
            f"data.source {config.source!r}: expected labels (N,) of whole numbers in 0..{last} and images uint8 "
            f"{shape} of 1 or 3 channels, found {labels.dtype} {labels.shape} in {min(values)}..{max(values)} and "
            f"{first.dtype} {first.shape}"
        )


def _open_tables(config: DataConfig, split: str, channels: int) -> ImageSource:
    from dit.data.sources import open_splits

    splits = open_splits(config)
    splits.check(config.train_split, "data.train_split")
    validation_name = splits.validation_name(config)
    train = read_labels(splits.tables[config.train_split], config, config.train_split)
    if validation_name is None:
        table, labels = splits.tables[config.train_split], train
        chosen = _hold_out(train.values, split, config)
    elif split == "train":
        table, labels, chosen = splits.tables[config.train_split], train, np.arange(len(train.values))
    else:
        table = splits.tables[validation_name]
        labels = read_labels(table, config, validation_name, class_names=train.class_names)
        chosen = held_out(labels.values, len(labels.values), seed=config.split_seed)
    if len(chosen) == 0 and split == "train":
        raise DitError(f"data.source {config.source!r}: expected training images, found none in {config.train_split}")
    _check_skipped(labels, len(table), config)
    rows, values, names = labels.rows[chosen], labels.values[chosen], in_words(labels.class_names)
    fingerprint = fingerprint_of(config, channels, splits.fingerprint, values, names, rows)
    reader = _Reader(table, rows, config, channels)
    return ImageSource(names, values, channels, fingerprint, labels.rejected, reader.read, reader.name, reader.read)


def _hold_out(labels: np.ndarray, split: str, config: DataConfig) -> np.ndarray:
    """Return which of the images belong to the split."""
    validation = held_out(labels, round(len(labels) * config.val_fraction), seed=config.split_seed)
    return validation if split == "val" else np.setdiff1d(np.arange(len(labels)), validation)


def _check_skipped(labels: Labels, num_rows: int, config: DataConfig) -> None:
    if len(labels.rejected) > config.max_skipped * num_rows:
        raise DitError(
            f"data.max_skipped: expected at most {config.max_skipped:.2%} bad labels, found {len(labels.rejected)} in "
            f"{num_rows} images; the first: {labels.rejected[0]}"
        )


class _Reader:
    """Reads the images of some rows of a table."""

    def __init__(self, table: "Dataset", rows: np.ndarray, config: DataConfig, channels: int) -> None:
        from datasets import Image

        self._column, self._rows, self._config, self._channels = _image_column(table, config), rows, config, channels
        self._files = table.select_columns([self._column]).cast_column(self._column, Image(decode=False))

    def read(self, index: int, place: float | None = None) -> np.ndarray:
        value, name = self._find(index)
        size, max_pixels = self._config.image_size, self._config.max_pixels
        data = _read_bytes(value, name)
        return decode_image(data, size=size, channels=self._channels, max_pixels=max_pixels, name=name, place=place)

    def name(self, index: int) -> str:
        return self._find(index)[1]

    def _find(self, index: int) -> tuple[dict[str, Any] | None, str]:
        """Return what the table holds of an image, and what messages call it."""
        row = int(self._rows[index])
        value, record = self._files[row][self._column], f"{self._config.source} record {row}"
        if value is None or value["path"] is None:
            return value, record
        if value["bytes"] is not None:
            return value, f"{record} ({value['path']})"
        return value, name_member(value["path"]) or value["path"]


def _read_bytes(value: dict[str, Any] | None, name: str) -> bytes:
    """Return the bytes of an image that a table holds or names."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise DitError(f"{name}: expected an image, found none")
    if value["bytes"] is not None:
        return value["bytes"]
    path = value["path"]
    try:
        if (member := read_member(path)) is not None:
            return member
        if "://" not in path:
            return Path(path).read_bytes()
        import fsspec

        return fsspec.filesystem(path.split("://")[0]).cat_file(path)
    except OSError as error:
        raise DitError(f"{path}: expected an image, found {error.strerror or error}") from None


def _image_column(table: "Dataset", config: DataConfig) -> str:
    from datasets import Image

    def kind_of(feature: Any) -> str | None:
        if isinstance(feature, Image):
            return "image"
        if isinstance(feature, dict):
            return "bytes" if {"bytes", "path"} == feature.keys() else None
        dtype = str(getattr(feature, "dtype", ""))
        return "bytes" if dtype.endswith("binary") else "path" if dtype.endswith("string") else None

    if config.image_column is not None:
        if config.image_column not in table.column_names:
            raise ConfigError(
                f"data.image_column: expected one of {', '.join(table.column_names)}, found {config.image_column!r}"
            )
        if kind_of(table.features[config.image_column]) is None:
            raise ConfigError(
                f"data.image_column {config.image_column!r}: expected images, bytes or paths of files, found "
                f"{getattr(table.features[config.image_column], 'dtype', 'something else')}"
            )
        return config.image_column
    kinds = {name: kind_of(feature) for name, feature in table.features.items()}
    # Images without the metadata of `datasets` are bare bytes; a column of texts is taken only where it is named.
    columns = [name for name in kinds if kinds[name] == "image"] or [name for name in kinds if kinds[name] == "bytes"]
    if len(columns) == 1:
        return columns[0]
    found = ", ".join(columns) or f"none among {', '.join(table.column_names)}"
    raise ConfigError(f"data.image_column: expected one column of images, found {found}; name it")
