"""Opening a data set through `datasets`: a table with one row per image, for each of its splits.

What a local path is, is seen from its content: a Parquet file, a WebDataset tar, a data set saved by `datasets`, a
folder of such shards, or a folder of images. In a folder of images the first sub-folder is the class; it may be
divided into `train/` and `val/` (or `validation/`, `test/`) first. Anything else is an id on the Hub.
"""

import hashlib
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit.data.config import DataConfig
from dit.data.decode import IMAGE_SUFFIXES
from dit.data.registry import data_names
from dit.data.tars import TABLE_NAMES, check_members, open_tars
from dit.display import warn
from dit.errors import ConfigError, DitError, did_you_mean
from dit.hub_ids import HubId

if TYPE_CHECKING:
    from datasets import Dataset

VALIDATION_NAMES = ("validation", "val", "valid", "dev", "test")
HASHED_BYTES = 2**28  # data sets up to this size are fingerprinted by content, larger ones by file names and sizes
_SHARD_SUFFIXES = frozenset({".parquet", ".tar", ".zip", ".arrow"})
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zX")  # gzip, bzip2, xz


@dataclass(frozen=True)
class Splits:
    """The splits of a data set, and what its content is known by."""

    tables: Mapping[str, "Dataset"]
    fingerprint: str

    def validation_name(self, config: DataConfig) -> str | None:
        """Return the name of the split that is held out already, if there is one.

        Raises:
            ConfigError: `data.val_split` names a split that is not there.
        """
        if config.val_split is not None:
            self.check(config.val_split, "data.val_split")
            return config.val_split
        others = [name for name in VALIDATION_NAMES if name in self.tables and name != config.train_split]
        return others[0] if others else None

    def check(self, split: str, field: str) -> None:
        """Refuse a split that the data set does not have."""
        if split not in self.tables:
            hint = did_you_mean(split, self.tables)
            raise ConfigError(f"{field}: expected one of the splits {', '.join(self.tables)}, found {split!r}.{hint}")


def open_splits(config: DataConfig) -> Splits:
    """Open the data set that `data.source` names; images are not decoded.

    Raises:
        ConfigError: there is nothing of that name, or nothing that holds images.
        DitError: the source is there but can't be read.
    """
    path = Path(config.source).expanduser()
    if path.is_dir():
        return _open_folder(path, config)
    if path.is_file():
        return _open_file(path, config)
    return _open_hub(config)


def _open_file(path: Path, config: DataConfig) -> Splits:
    with open(path, "rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        return Splits(_load(config, "parquet", data_files=[_escape(path)]), fingerprint_files([path]))
    if start.startswith(_COMPRESSED) and tarfile.is_tarfile(path):
        check_members(path)
        return Splits(_load(config, "webdataset", data_files=[_escape(path)]), fingerprint_files([path]))
    if path.suffix == ".tar" or tarfile.is_tarfile(path):
        return Splits({config.train_split: open_tars([path])}, fingerprint_files([path]))
    raise ConfigError(f"data.source: expected a folder, a Parquet file or a WebDataset tar, found the file {path}")


def _open_folder(folder: Path, config: DataConfig) -> Splits:
    files = sorted(files_below(folder))
    fingerprint = fingerprint_files(files, folder)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return Splits(_load(config, str(folder), is_saved=True), fingerprint)
    shards = [file for file in files if file.suffix.lower() in _SHARD_SUFFIXES]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    kinds = sorted({file.suffix.lower() for file in shards})
    if len(kinds) > 1 or (kinds and images):
        raise ConfigError(
            f"data.source: expected images or archives of one kind, found {len(images)} images and {len(shards)} "
            f"{', '.join(kinds)} files in {folder}; name the file or the folder of one of them"
        )
    if kinds == [".tar"]:
        tables = [file for file in files if file.name in TABLE_NAMES]
        return Splits({name: open_tars(tars, tables) for name, tars in _by_split(shards, folder).items()}, fingerprint)
    if shards or any(file.name in ("metadata.csv", "metadata.jsonl") for file in files):
        return Splits(_load(config, str(folder), name=config.subset), fingerprint)
    return Splits(_image_folder(folder, files, config), fingerprint)


def _by_split(shards: list[Path], folder: Path) -> dict[str, list[Path]]:
    """Divide archives by the name of a split in theirs or their folder's; without one they are for training."""
    splits: dict[str, list[Path]] = {}
    for path in shards:
        words = re.split(r"[^a-z]+", path.relative_to(folder).as_posix().lower())
        splits.setdefault(next((word for word in words if word in VALIDATION_NAMES), "train"), []).append(path)
    return splits


def _open_hub(config: DataConfig) -> Splits:
    hub_id = HubId.parse(config.source)
    if hub_id is None:
        raise ConfigError(
            f"data.source: expected {' or '.join(data_names())}, an existing folder or file, or a Hub id "
            f"org/name[@revision], found {config.source!r}"
        )
    tables = _load(config, hub_id.repository, name=config.subset, revision=hub_id.revision)
    # The addresses of a Hub data set's files hold the commit that the revision stood for.
    facts = [sorted(table.info.download_checksums or {hub_id.repository: hub_id.revision}) for table in tables.values()]
    return Splits(tables, hashlib.sha256(json.dumps(facts).encode()).hexdigest())


def _load(config: DataConfig, source: str, *, is_saved: bool = False, **arguments: Any) -> Mapping[str, "Dataset"]:
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        loaded = datasets.load_from_disk(source) if is_saved else datasets.load_dataset(source, **arguments)
    except Exception as error:  # every builder and file system has errors of its own; all of them are about the source
        where = "" if Path(config.source).expanduser().exists() else "no such file or folder here; on the Hub: "
        raise DitError(f"data.source {config.source!r}: {where}{_explain(error)}") from None
    if isinstance(loaded, datasets.Dataset):
        return {config.train_split: loaded}
    return {str(name): table for name, table in loaded.items()}


def _explain(error: BaseException) -> str:
    """Return the first line of the innermost cause: `datasets` wraps errors in ones that say nothing more."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _image_folder(folder: Path, files: list[Path], config: DataConfig) -> Mapping[str, "Dataset"]:
    """Make one table of image paths and labels for each split of a folder of images."""
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    ignored = sorted({file.suffix or file.name for file in files} - {file.suffix for file in images})
    if not images:
        found = ", ".join(ignored) or "nothing"
        are_latents = {".safetensors", ".npy"} & set(ignored)
        hint = "; name the images that these were made of, for latents do only for training" if are_latents else ""
        raise ConfigError(f"data.source: expected a folder with images, found {found} in {folder}{hint}")
    if ignored:
        warn(f"{folder}: ignored {len(files) - len(images)} files ({', '.join(ignored)})")
    by_first_folder: dict[str, list[Path]] = {}
    for file in images:
        by_first_folder.setdefault(file.relative_to(folder).parts[0], []).append(file)
    depth = 2 if config.label_column is None else 3  # of an image that is in the folder of its split
    train = by_first_folder.get(config.train_split, [])
    if not any(len(file.relative_to(folder).parts) >= depth for file in train):
        return {config.train_split: _table(folder, images, config)}
    names = (config.train_split, config.val_split) if config.val_split else (config.train_split, *VALIDATION_NAMES)
    return {name: _table(folder / name, by_first_folder[name], config) for name in names if name in by_first_folder}


def _table(root: Path, images: list[Path], config: DataConfig) -> "Dataset":
    from datasets import ClassLabel, Dataset, Features, Image

    columns: dict[str, list[Any]] = {"image": [str(file) for file in images]}
    features: dict[str, Any] = {"image": Image(decode=False)}
    if config.label_column is not None:
        parts = [file.relative_to(root).parts for file in images]
        if shallow := [file.name for file in images if file.parent == root]:
            raise ConfigError(
                f"data.source: expected one sub-folder per class in {root}, found the image {shallow[0]} directly in "
                "it; sort the images into sub-folders, list "
                "them in metadata.csv (file_name, label), or set data.label_column to null for images without classes"
            )
        classes = sorted({part[0] for part in parts})
        folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if empty := [name for name in folders if name not in classes]:
            warn(f"{root}: {len(empty)} folders without images are no classes ({', '.join(empty[:5])})")
        columns[config.label_column] = [part[0] for part in parts]
        features[config.label_column] = ClassLabel(names=classes)
    return Dataset.from_dict(columns, features=Features(features))


def files_below(folder: Path) -> Iterable[Path]:
    """Yield all files but hidden ones; folders that are links are not followed."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))


def _escape(path: Path) -> str:
    """Return the path as a pattern that matches nothing but itself."""
    return re.sub(r"([*?\[])", r"[\1]", str(path.absolute()))


def fingerprint_files(files: list[Path], folder: Path | None = None) -> str:
    """Hash names and sizes of files, and the content of all where that is little.

    Raises:
        DitError: a file can't be read.
    """
    digest = hashlib.sha256()
    try:
        sizes = {file: file.stat().st_size for file in files}
        by_content = sum(sizes.values()) <= HASHED_BYTES
        for file, size in sizes.items():
            name = file.relative_to(folder).as_posix() if folder else file.name
            digest.update(json.dumps([name, size]).encode())
            if by_content:
                digest.update(file.read_bytes())
    except OSError as error:
        raise DitError(
            f"{error.filename}: expected a file that can be read, found {error.strerror}; restore or remove it"
        ) from None
    return digest.hexdigest()
