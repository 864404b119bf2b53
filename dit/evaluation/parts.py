"""Features of many images in parts: a file per batch, named by the position of its first image.

Several processes take the batches in turn, and a part is there whole or not at all: so its bytes depend neither on the
number of processes nor on interruptions, and what is there is not computed again. Beside its features every image has
the hash of its pixels: that of all images is the hash of these, whatever the batches were.

Shapes: B images of a batch, C channels, H x W pixels.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from dit.display import Progress
from dit.evaluation.feature_set import PIXELS, FeatureSet
from dit.files import write_bytes
from dit.launcher import ALONE, Share, wait_for_files

Part = dict[str, Tensor]
"""Name -> features (B, D), or one value for each image (B,)."""


def part_paths(folder: Path, num: int, batch_size: int) -> dict[int, Path]:
    """Return the file of each batch of `num` images, by the position of its first one."""
    return {start: folder / f"{start:08d}.safetensors" for start in range(0, num, batch_size)}


def write_parts(
    folder: Path,
    num: int,
    batch_size: int,
    make: Callable[[Sequence[int]], Iterable[Part]],
    *,
    title: str,
    share: Share = ALONE,
) -> None:
    """Make the parts of this process's share that are not there.

    Args:
        folder: where they lie.
        num: number of images.
        batch_size: images of a part.
        make: from the positions of the first images of batches to their parts.
        title: what progress calls the images.
        share: which of how many processes this is.
    """
    paths = part_paths(folder, num, batch_size)
    missing = [start for start in list(paths)[share.rank :: share.num] if not paths[start].is_file()]
    if not missing:
        return
    total = sum(min(batch_size, num - start) for start in missing)
    with Progress(total, title, enabled=share.rank == 0) as shown:
        for start, part in zip(missing, make(missing), strict=True):
            write_bytes(paths[start], save(part))
            shown.advance(min(batch_size, num - start))


def read_parts(folder: Path, num: int, batch_size: int, features: FeatureSet) -> FeatureSet:
    """Add all parts to a set of features, once all are there, and return it."""
    paths = part_paths(folder, num, batch_size)
    wait_for_files(paths.values())
    for start, path in paths.items():
        features.add_file(path, min(batch_size, num - start))
    return features


def make_part(images: Tensor, describe: Callable[[Tensor], Part]) -> Part:
    """Return the part of images (B, C, H, W) uint8: their features, and the hashes of their pixels."""
    return {PIXELS: hash_images(images), **{name: values.contiguous() for name, values in describe(images).items()}}


def hash_images(images: Tensor) -> Tensor:
    """Return the SHA-256 of the pixels of images (B, 1 or 3, H, W) uint8 as RGB, (H, W, 3): (B, 32) uint8."""
    pixels = images.cpu().permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
    digests = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
    return torch.tensor([list(digest) for digest in digests], dtype=torch.uint8)


def parts_of_arrays(batches: Iterator[np.ndarray], describe: Callable[[Tensor], Part]) -> Iterator[Part]:
    """Yield the parts of batches (B, H, W, C) uint8."""
    for batch in batches:
        yield make_part(torch.tensor(batch).permute(0, 3, 1, 2), describe)
