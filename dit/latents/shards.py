"""The cache of moments on the disk: a folder of safetensors parts and an index.

    index.json               what the latents were made of, the classes, the parts with size and hash, what was skipped
    part-00000.safetensors   moments (n, V, M, h, w), labels (n,), rows (n,): which image of the split

V is 1, or 2 where the mirrored image is there too (view 1). A folder without index.json is not finished.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dit.errors import DitError
from dit.files import read_json, sha256, write_bytes
from dit.schema import Section

FORMAT_VERSION = 1
INDEX_NAME = "index.json"


class Identity(Section):
    """What moments depend on: caches with equal identities hold equal ones. Their normalisation comes later."""

    data: str
    """Fingerprint of the images, labels and the split."""
    vae: str
    """Fingerprint of the autoencoder."""
    flip: bool
    """Whether mirrored images are there too."""
    storage: str
    """Type of the stored moments."""


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


@dataclass(frozen=True)
class Part:
    """A part of the cache, mapped into memory: pages are read when they are used."""

    path: Path
    """The file."""
    moments: Tensor
    """(n, V, M, h, w), in the type of storage."""
    labels: Tensor
    """(n,) int64."""
    rows: Tensor
    """(n,) int64 image of the split."""
    skipped: tuple[str, ...]
    """Messages about images of this part that were left out."""


def write_part(
    path: Path, moments: Tensor, labels: Tensor, rows: Tensor, *, fingerprint: str, skipped: list[str]
) -> None:
    """Write a part atomically."""
    tensors = {"moments": moments.contiguous(), "labels": labels, "rows": rows}
    write_bytes(path, save(tensors, metadata={"fingerprint": fingerprint, "skipped": json.dumps(skipped)}))


def read_part(path: Path, *, fingerprint: str) -> Part:
    """Map a part into memory.

    Raises:
        DitError: the file is missing, cut short or damaged, or belongs to other latents.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            moments, labels, rows = (file.get_tensor(name) for name in ("moments", "labels", "rows"))
    except (OSError, SafetensorError) as error:
        raise DitError(f"{path}: expected a part of cached latents, found {error}; remove the folder") from None
    if metadata.get("fingerprint") != fingerprint:
        raise DitError(
            f"{path}: expected latents with fingerprint {fingerprint}, found {metadata.get('fingerprint')}; "
            "remove the folder"
        )
    return Part(path, moments, labels, rows, tuple(json.loads(metadata["skipped"])))


def part_entry(path: Path, num_samples: int) -> PartEntry:
    """Describe a finished part."""
    return PartEntry(file=path.name, num_samples=num_samples, num_bytes=path.stat().st_size, sha256=sha256(path))


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
