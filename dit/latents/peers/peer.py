"""What a reader of another format gives: the parts of its folder, opened, and what is known of them.

N samples in parts of n; M moments of C x h x w latents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dit.data.imagenet import imagenet_classes
from dit.display import say
from dit.errors import DitError
from dit.latents.shards import Identity, Index, PartEntry, ReadsRows
from dit.launcher import is_main

MAX_CLASSES = 100_000
"""A label beyond them is taken for damage."""
PART_FILES = 1024
"""Samples of a part where each has a file of its own."""


@dataclass(frozen=True)
class Peer:
    """A folder or an archive of latents."""

    index: Index
    """What it holds, as our own index.json says it."""
    open_part: Callable[[int], ReadsRows]
    """Gives the part of a number."""
    statistics: tuple[Tensor, Tensor] | None = None
    """Mean and standard deviation (C,) of each channel that it comes with."""


def make_peer(
    path: Path,
    parts: Mapping[str, ReadsRows],
    *,
    fingerprint: str,
    latents_shape: tuple[int, int, int],
    num_moments: int,
    has_flips: bool = False,
    is_labelled: bool = True,
    statistics: tuple[Tensor, Tensor] | None = None,
) -> Peer:
    """Describe the parts of a format; `num_moments` is C for draws, 2C for means and log-variances.

    Raises:
        DitError: a label is out of range, or there is no sample.
    """
    sizes = {name: len(part.labels) for name, part in parts.items()}
    if not sum(sizes.values()):
        raise DitError(f"{path}: expected latents, found none")
    num_classes = 0
    for name, part in parts.items():
        if not len(part.labels):
            continue
        lowest, highest = int(part.labels.min()), int(part.labels.max())
        if lowest < 0 or highest >= MAX_CLASSES:
            raise DitError(
                f"{path}: {name}: expected labels in 0..{MAX_CLASSES - 1}, found {lowest} to {highest}; mend them"
            )
        num_classes = max(num_classes, highest + 1)
    class_names = _class_names(path, num_classes) if is_labelled else ()
    identity = Identity(
        data=fingerprint, vae="unknown", flip=has_flips, storage="float32", precision="float32", batch_size=1
    )
    index = Index(
        fingerprint=fingerprint,
        identity=identity,
        source=str(path),
        vae="unknown",
        image_size=0,
        latents_shape=latents_shape,
        num_moments=num_moments,
        class_names=class_names,
        parts=tuple(PartEntry(file=name, num_samples=size, num_bytes=0, sha256="") for name, size in sizes.items()),
        skipped=(),
    )
    return Peer(index, list(parts.values()).__getitem__, statistics)


@dataclass(frozen=True)
class FilesPart:
    """Some samples that have a file each, read when they are needed."""

    path: Path
    """The folder or the archive."""
    names: tuple[str, ...]
    """Names of the files."""
    labels: np.ndarray
    """(n,) int64."""
    load: Callable[[str], Tensor]
    """Gives the moments (M, h, w) of a file."""

    def read(self, values: np.ndarray, row: int, view: int) -> None:
        """Read the moments (M, h, w) of a row into their bytes, in float32; there are no mirrored images.

        Raises:
            DitError: the file is damaged, has another shape or holds NaN or infinity; it is named.
        """
        assert not view
        found = self.load(self.names[row])
        if not found.isfinite().all():
            raise DitError(f"{self.path}: {self.names[row]}: expected finite latents, found NaN or infinity")
        values.view(np.float32)[:] = found.float().flatten().numpy()


def parts_of_files(
    path: Path, names: list[str], labels: np.ndarray, load: Callable[[str], Tensor]
) -> dict[str, ReadsRows]:
    """Divide samples that have a file each into parts."""
    starts = range(0, len(names), PART_FILES)
    return {
        names[start]: FilesPart(
            path, tuple(names[start : start + PART_FILES]), labels[start : start + PART_FILES], load
        )
        for start in starts
    }


def _class_names(path: Path, num_classes: int) -> tuple[str, ...]:
    names = imagenet_classes()
    if num_classes != len(names):
        return tuple(map(str, range(num_classes)))
    if is_main():
        say(f"{path}: its 1000 classes are taken for ImageNet's, in their usual order")
    return tuple(names)
