"""The cache of moments on the disk: a folder of safetensors parts and an index.

    index.json               what the latents were made of, the classes, the parts with size and hash, what was skipped
    part-00000.safetensors   moments (n, V, M, h, w), labels (n,), rows (n,): which image of the split; skipped:
                             messages about images that were left out, as bytes of JSON

V is 1, or 2 where the mirrored image is there too (view 1). A folder without index.json is not finished.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dit.errors import DitError
from dit.files import read_json, write_bytes
from dit.schema import Section

FORMAT_VERSION = 1
INDEX_NAME, STATISTICS_NAME = "index.json", "statistics.json"


class Identity(Section):
    """What moments depend on, their normalisation comes later: equal identities, equal moments on a kind of device."""

    data: str
    """Fingerprint of the images, labels and the split."""
    vae: str
    """Fingerprint of the autoencoder."""
    flip: bool
    """Whether mirrored images are there too."""
    storage: str
    """Type of the stored moments."""
    precision: str
    """Type that the autoencoder computed in."""
    batch_size: int
    """Images that were encoded at a time, which decides the last bits."""

    @property
    def fingerprint(self) -> str:
        """Hash of all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def name(self) -> str:
        """Hash of what more than the last bits depend on; a cache is found by it."""
        return hashlib.sha256(self.model_dump_json(exclude={"batch_size"}).encode()).hexdigest()


class PartEntry(Section):
    """One file of the cache."""

    file: str
    """Name in the folder."""
    num_samples: int
    """Number of samples."""
    num_bytes: int
    """Size of the file."""
    sha256: str
    """Hash of the file."""


class PartReport(Section):
    """What is known of a part that is finished, until index.json holds it."""

    entry: PartEntry | None
    """The file; null where every image was left out."""
    skipped: tuple[str, ...]
    """Messages about images of this part that were left out."""


class Index(Section):
    """The content of index.json."""

    format_version: int = FORMAT_VERSION
    """Version of this layout."""
    fingerprint: str
    """Hash of the identity."""
    identity: Identity
    """What the latents were made of."""
    source: str
    """The recipe's data.source and the split, for people."""
    vae: str
    """The recipe's latents.vae, for people."""
    image_size: int
    """Side of the images in pixels."""
    latents_shape: tuple[int, int, int]
    """C, h, w of a latent."""
    num_moments: int
    """Channels of the moments: 2C of a Gaussian, C of a deterministic encoder."""
    class_names: tuple[str, ...]
    """Name of each class; empty for images without labels."""
    parts: tuple[PartEntry, ...]
    """The files, in order."""
    skipped: tuple[str, ...]
    """One message per image that data.on_error: skip left out."""


class ReadsRows(Protocol):
    """What a data set needs of a part, ours or one of another format."""

    @property
    def path(self) -> Path:
        """What messages call it."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64."""
        ...

    def read(self, values: np.ndarray, row: int, view: int) -> None:
        """Read the moments (M, h, w) of a row in a view into their bytes, in the type of storage of the index."""
        ...


@dataclass(frozen=True)
class OpenFile:
    """A file that is open as long as somebody holds this."""

    path: Path
    """Its path."""
    descriptor: int
    """Its number; the file is closed with this object."""

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        """Close it, also when the interpreter ends and `os` is gone."""
        close(self.descriptor)

    def read(self, values: np.ndarray, start: int) -> None:
        """Fill an array of bytes with those from `start` on.

        Raises:
            DitError: the file ends before, or can't be read.
        """
        try:
            found = os.preadv(self.descriptor, [values.data], start)
        except OSError as error:
            raise DitError(f"{self.path}: {error.strerror}") from None
        if found != len(values):
            raise DitError(f"{self.path}: expected {len(values)} bytes at byte {start}, found {found}")


@dataclass(frozen=True)
class Part:
    """A part of the cache, open and mapped into memory."""

    file: OpenFile
    """The file."""
    moments: Tensor
    """(n, V, M, h, w), in the type of storage; pages are read when they are used."""
    start: int
    """Byte of the file where the moments begin."""
    num_views: int
    """V."""
    labels: np.ndarray
    """(n,) int64."""
    rows: Tensor
    """(n,) int64 image of the split."""
    skipped: tuple[str, ...]
    """Messages about images of this part that were left out."""

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.file.path

    def read(self, values: np.ndarray, row: int, view: int) -> None:
        """Read the moments (M, h, w) of a row in a view into their bytes, in the type of storage of the index.

        Not from mapped memory: a network file system would be asked for page after page.
        """
        self.file.read(values, self.start + (row * self.num_views + view) * len(values))


def write_part(
    path: Path, moments: Tensor, labels: Tensor, rows: Tensor, *, fingerprint: str, skipped: Sequence[str]
) -> PartEntry:
    """Write a part atomically, and describe it."""
    messages = torch.tensor(list(json.dumps(skipped).encode()), dtype=torch.uint8)
    tensors = {"moments": moments.contiguous(), "labels": labels, "rows": rows, "skipped": messages}
    data = save(tensors, metadata={"fingerprint": fingerprint})  # several keys would come in any order
    write_bytes(path, data)
    digest = hashlib.sha256(data).hexdigest()
    return PartEntry(file=path.name, num_samples=len(labels), num_bytes=len(data), sha256=digest)


def read_part(path: Path, *, fingerprint: str) -> Part:
    """Map a part into memory; one that the process that encodes it replaces meanwhile is read once more.

    Raises:
        DitError: the file is missing, cut short or damaged, or belongs to other latents.
    """
    while True:
        before = _inode(path)
        try:
            part = _read_part(path, fingerprint)
        except DitError:
            if _inode(path) == before:
                raise
        else:
            if _inode(path) == before:
                return part


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _read_part(path: Path, fingerprint: str) -> Part:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            moments, labels, rows, messages = map(file.get_tensor, ("moments", "labels", "rows", "skipped"))
        skipped = json.loads(bytes(messages.tolist()))
        file = OpenFile(path, os.open(path, os.O_RDONLY))
        length = int.from_bytes(os.pread(file.descriptor, 8, 0), "little")
        header = json.loads(os.pread(file.descriptor, length, 8))
    except (OSError, SafetensorError, ValueError) as error:
        raise DitError(f"{path}: expected a part of cached latents, found {error}; remove the folder") from None
    if metadata.get("fingerprint") != fingerprint:
        raise DitError(
            f"{path}: expected latents with fingerprint {fingerprint}, found {metadata.get('fingerprint')}; "
            "remove the folder"
        )
    start = 8 + length + header["moments"]["data_offsets"][0]
    return Part(file, moments, start, moments.shape[1], labels.numpy(), rows, tuple(skipped))


def read_index(folder: Path) -> Index:
    """Read index.json.

    Raises:
        DitError: it is missing or damaged.
    """
    path = folder / INDEX_NAME
    content = read_json(path)
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise DitError(f"{path}: expected cached latents of format_version {FORMAT_VERSION}, found {version!r}")
    try:
        return Index.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise DitError(f"{path}: {field}: {first['msg']}; remove the folder to encode anew") from None
