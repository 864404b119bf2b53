"""Images to be measured as they lie in files: an `.npz` with `arr_0`, a folder or a tar of PNGs; nothing is resized.

JPEG is refused unless it is asked for, for compression alone moves FID by more than models differ. Files are taken in
the order of the numbers in their names.

Shapes: N images in all, B of a batch, H x W pixels.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dit.data.decode import IMAGE_SUFFIXES, to_mode
from dit.errors import ConfigError, DitError
from dit.files import sha256
from dit.npz import NpzReader

LABELS_NAME = "labels.json"
"""Beside the PNGs of `dit sample`: file name -> class."""
SETTINGS_NAME = "sampling.json"
"""Beside them: how they were made."""
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")


class Batches(Protocol):
    """Reads images."""

    def __call__(self, batch_size: int, starts: Sequence[int] | None = None, /) -> Iterator[np.ndarray]:
        """Yield batches (B, H, W, 3) uint8 of at most so many images; of given positions of first images, those alone.

        Raises:
            DitError: an image is broken or of another size; the message names it.
        """
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Images of one size, in their order."""

    num: int
    """N."""
    size: tuple[int, int]
    """H and W."""
    sha256: str
    """Hash of the files that hold them."""
    labels: Tensor | None
    """(N,) int64 class of each; None where they are not known."""
    batches: Batches
    """Reads them."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """How they were made, where the file says so, as `dit sample` writes it."""


def open_image_files(path: Path, *, allow_jpeg: bool = False) -> ImageFiles:
    """Open the images of an `.npz`, a folder or a tar.

    Raises:
        ConfigError: there is no such file, or it holds JPEGs that were not asked for.
        DitError: it holds no images, or is damaged.
    """
    if path.suffix.lower() == ".npz":
        return open_npz(path)
    if path.is_dir():
        files = sorted((file for file in path.rglob("*") if file.is_file()), key=_numbers)
        found = {file.relative_to(path).as_posix(): file.read_bytes for file in files}
    elif path.is_file() and tarfile.is_tarfile(path):
        found = _members(path)
    else:
        raise ConfigError(f"{path}: expected an .npz, a folder or a tar of PNGs, found none of them")
    names = [name for name in found if name.lower().endswith(IMAGE_SUFFIXES) and not Path(name).name.startswith(".")]
    allowed = (".png", *_JPEG) if allow_jpeg else (".png",)
    if other := [name for name in names if not name.lower().endswith(allowed)]:
        raise ConfigError(
            f"{path}: expected PNGs, found {other[0]}: lossy files change the figures; save PNGs, or give --allow_jpeg "
            "if the samples are JPEGs"
        )
    if not names:
        raise DitError(f"{path}: expected PNGs, found none")
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + hashlib.sha256(found[name]()).digest())
    size = _decode(path, names[0], found[names[0]](), None).shape[:2]
    labels = _read_labels(path, names, _read_json(path, LABELS_NAME, found))
    about = {key: value for key, value in _read_json(path, SETTINGS_NAME, found).items() if key != "labels"}
    reader = _reader(path, names, found, size)
    return ImageFiles(len(names), (size[0], size[1]), digest.hexdigest(), labels, reader, about)


def open_npz(path: Path, *, digest: str | None = None) -> ImageFiles:
    """Open the images of an `.npz`, in `arr_0`, and the classes in `arr_1` where they are there.

    `images` and `labels` are read too, which `dit sample` wrote in earlier versions.

    Args:
        path: the file.
        digest: its SHA-256, where it was computed before.

    Raises:
        DitError: it is damaged, or its images are not uint8 (N, H, W, 3).
    """
    reader = NpzReader(path)
    images, labels = ("images", "labels") if "images" in reader.names else ("arr_0", "arr_1")
    shape, _, dtype = reader.header(images)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
        raise DitError(f"{path}: expected {images} uint8 (N, height, width, 3), found {dtype} {shape}")
    classes = None
    if labels in reader.names:
        found = reader.read(labels)
        if found.shape != shape[:1] or found.dtype.kind not in "iu":
            raise DitError(f"{path}: expected {labels} ({shape[0]},) whole numbers, found {found.dtype} {found.shape}")
        classes = torch.from_numpy(found.astype(np.int64))

    def batches(batch_size: int, starts: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        for rows in reader.rows(images, batch_size, starts):
            yield np.broadcast_to(rows, (*rows.shape[:3], 3))  # grey ones as RGB

    size = (shape[1], shape[2])
    return ImageFiles(shape[0], size, digest or sha256(path), classes, batches, reader.read_json("about"))


def _members(path: Path) -> Mapping[str, Callable[[], bytes]]:
    """Return how each file of a tar is read; nothing is unpacked."""
    try:
        with tarfile.open(path, "r:") as archive:  # compressed archives can't be read from the middle
            members = [member for member in archive if member.isfile()]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DitError(f"{path}: expected a whole, uncompressed tar, found another file ({error})") from None

    def reader(offset: int, size: int) -> Callable[[], bytes]:
        def read() -> bytes:
            with open(path, "rb") as file:
                file.seek(offset)
                return file.read(size)

        return read

    members.sort(key=lambda member: _numbers(member.name))
    return {member.name: reader(member.offset_data, member.size) for member in members}


def _numbers(name: Path | str) -> list[tuple[int, str]]:
    """Return what puts 10.png behind 9.png."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(name))]


def _reader(
    path: Path, names: Sequence[str], found: Mapping[str, Callable[[], bytes]], size: tuple[int, ...]
) -> Batches:
    def batches(batch_size: int, starts: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        for start in range(0, len(names), batch_size) if starts is None else starts:
            yield np.stack([_decode(path, name, found[name](), size) for name in names[start : start + batch_size]])

    return batches


def _decode(path: Path, name: str, data: bytes, size: tuple[int, ...] | None) -> np.ndarray:
    """Decode one image to (H, W, 3) uint8, and refuse another size than (H, W)."""
    where = f"{path}: {name}"
    try:
        # A JPEG by another name is refused too.
        image = Image.open(BytesIO(data), formats=("JPEG",) if name.lower().endswith(_JPEG) else ("PNG",))
        pixels = np.asarray(to_mode(image, 3, name=where))
    except DitError:
        raise
    except UnidentifiedImageError:
        raise DitError(f"{where}: expected what its name says, a whole PNG or JPEG, found another file") from None
    except Exception as error:  # a broken file makes PIL raise OSError, SyntaxError, struct.error, EOFError and more
        raise DitError(f"{where}: expected a whole PNG, found a broken one ({str(error).splitlines()[0]})") from None
    if size is not None and pixels.shape[:2] != size:
        raise DitError(
            f"{where}: expected {size[0]} x {size[1]} pixels as the first image, found {pixels.shape[0]} x "
            f"{pixels.shape[1]}; nothing is resized here"
        )
    return pixels


def _read_json(path: Path, name: str, found: Mapping[str, Callable[[], bytes]]) -> dict[str, Any]:
    """Return what `dit sample` wrote beside its images; nothing where it is not there."""
    try:
        return dict(json.loads(found[name]())) if name in found else {}
    except (ValueError, TypeError) as error:
        raise DitError(f"{path}: expected {name} in JSON, found {error}; remove it") from None


def _read_labels(path: Path, names: Sequence[str], labels: Mapping[str, Any]) -> Tensor | None:
    """Return the classes of images, of which a file says nothing or all."""
    if not labels:
        return None
    if any(type(labels.get(name)) is not int for name in names):
        raise DitError(f"{path}: expected a class for each image in {LABELS_NAME}, found others; remove it")
    return torch.tensor([labels[name] for name in names])
