"""Encoding a data set once: images in, a folder of moments out.

Moments are kept rather than one draw, so that every epoch draws anew. The cache's name is a hash of everything that
the moments depend on. Parts are written one by one into a working folder, which is renamed when the last one and the
index are there; the same command finishes an encoding that was cut off. Several processes that want the same cache
wait for the one that came first.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit.data.config import DataConfig
from dit.data.images import ImageSource, open_images
from dit.display import Progress, warn
from dit.errors import DitError
from dit.failpoints import failpoint
from dit.files import TEMPORARY_PREFIX, cache_folder, fsync_folder, write_json
from dit.latents.codec import Codec
from dit.latents.config import LatentsConfig
from dit.latents.dataset import LatentDataset
from dit.latents.shards import INDEX_NAME, Identity, Index, part_entry, read_part, write_part

PART_BYTES = 2**27  # an interrupted encoding loses at most one part


def encode_dataset(
    data: DataConfig,
    latents: LatentsConfig,
    codec: Codec,
    split: str = "train",
) -> LatentDataset:
    """Return the moments of one split, encoding what is not in the cache yet.

    Args:
        data: the images.
        latents: batch size, storage and cache folder; its autoencoder is `codec`.
        codec: from `load_codec`.
        split: "train" or "val"; only training images are mirrored.

    Raises:
        ConfigError: the images can't be encoded with this autoencoder.
        DitError: an image is broken, or the folder of this cache holds latents of other data or another autoencoder.
    """
    codec.latent_size(data.image_size)
    images = open_images(data, split, channels=codec.image_channels)
    identity = Identity(
        data=images.fingerprint,
        vae=codec.fingerprint,
        flip=data.flip and split == "train",
        storage=latents.storage,
    )
    fingerprint = hashlib.sha256(identity.model_dump_json().encode()).hexdigest()
    caches = cache_folder("latents") if latents.cache is None else Path(latents.cache).expanduser()
    target = caches / f"{split}-{fingerprint[:24]}"
    with _lock(target):
        if not (target / INDEX_NAME).is_file():
            _finish(_Job(images, codec, data, latents, identity, fingerprint), target, split)
    dataset = LatentDataset(target)
    if dataset.fingerprint != fingerprint:
        raise DitError(
            f"{target}: fingerprint mismatch, expected {identity}, found {dataset.index.identity}; remove the folder"
        )
    _apply_policy(dataset, data)
    return dataset


@dataclass(frozen=True)
class _Job:
    images: ImageSource
    codec: Codec
    data: DataConfig
    latents: LatentsConfig
    identity: Identity
    fingerprint: str


def _finish(job: _Job, target: Path, split: str) -> None:
    """Encode the parts that are missing, write the index, and move the working folder to its place."""
    # The name holds the fingerprint, so that a working folder is never continued with other images or weights.
    working = target.parent / f"{TEMPORARY_PREFIX}{target.name}.{job.fingerprint[:16]}"
    working.mkdir(parents=True, exist_ok=True)
    entries, skipped = [], list(job.images.rejected)
    with Progress(len(job.images), f"encode {split}") as progress:
        for number, rows in enumerate(_part_rows(job)):
            path = working / f"part-{number:05}.safetensors"
            if path.is_file():  # of an earlier encoding that was interrupted
                progress.advance(len(rows))
            else:
                _encode_part(path, rows, job, progress)
                failpoint(f"encode:{path.name}")
            part = read_part(path, fingerprint=job.fingerprint)
            assert len(part.labels) + len(part.skipped) == len(rows), path
            skipped += part.skipped
            _check_skipped(skipped, len(job.images) + len(job.images.rejected), job.data)
            if len(part.labels):
                entries.append(part_entry(path, len(part.labels)))
    if split == "train" and not entries:
        raise DitError(f"data.source {job.data.source!r}: expected at least one training image, found none")
    index = Index(
        fingerprint=job.fingerprint,
        identity=job.identity,
        source=f"{job.data.source} ({split})",
        vae=job.latents.vae,
        image_size=job.data.image_size,
        latents_shape=(job.codec.latent_channels, *job.codec.latent_size(job.data.image_size)),
        num_moments=job.codec.num_moments,
        class_names=job.images.class_names,
        parts=tuple(entries),
        skipped=tuple(skipped),
    )
    write_json(working / INDEX_NAME, index.model_dump(mode="json"))  # from then on the cache is finished
    os.replace(working, target)
    fsync_folder(target.parent)


def _part_rows(job: _Job) -> Iterator[range]:
    """Divide the images into parts of whole batches, so that a batch holds the same images after a restart."""
    height, width = job.codec.latent_size(job.data.image_size)
    item_size = getattr(torch, job.latents.storage).itemsize
    sample_bytes = (1 + job.identity.flip) * job.codec.num_moments * height * width * item_size
    batch_size = job.latents.batch_size
    size = max(1, PART_BYTES // (sample_bytes * batch_size)) * batch_size
    for start in range(0, len(job.images), size):
        yield range(start, min(start + size, len(job.images)))


def _encode_part(path: Path, rows: range, job: _Job, progress: Progress) -> None:
    moments, kept, skipped = [], [], []
    for batch, results in _read_batches(rows, job):
        good = [(row, result) for row, result in zip(batch, results, strict=True) if isinstance(result, np.ndarray)]
        if good:
            moments.append(_encode_batch(np.stack([pixels for _, pixels in good]), job))
        kept += [row for row, _ in good]
        skipped += [result for result in results if isinstance(result, str)]
        progress.advance(len(batch))
    labels = torch.from_numpy(job.images.labels[kept].astype(np.int64))
    stacked = torch.cat(moments) if moments else torch.zeros(0, 1, 1, 1, 1)
    write_part(path, stacked, labels, torch.tensor(kept), fingerprint=job.fingerprint, skipped=skipped)


def _read_batches(rows: range, job: _Job) -> Iterator[tuple[range, list[np.ndarray | str]]]:
    """Yield batches of rows with what `_read` says of each; the next batch is read while one is encoded."""
    size = job.latents.batch_size
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    with ThreadPoolExecutor(job.data.num_threads) as pool:
        pending = [pool.submit(_read, job, row) for row in batches[0]]
        for batch, following in zip(batches, [*batches[1:], range(0)], strict=True):
            results = [future.result() for future in pending]
            pending = [pool.submit(_read, job, row) for row in following]
            yield batch, results


def _read(job: _Job, row: int) -> np.ndarray | str:
    """Return the pixels of an image, or what is wrong with it where that is to be skipped."""
    try:
        return job.images.read(row)
    except DitError as error:
        if job.data.on_error == "skip":
            return str(error)
        raise


def _encode_batch(pixels: np.ndarray, job: _Job) -> Tensor:
    """Encode images (B, H, W, channels) uint8 and their mirror images: (B, V, M, h, w)."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # (B, channels, H, W) uint8
    views = [job.codec.encode(images)]
    if job.identity.flip:
        views.append(job.codec.encode(images.flip(-1)))
    return torch.stack(views, dim=1).to("cpu", getattr(torch, job.latents.storage))


def _check_skipped(skipped: Sequence[str], total: int, data: DataConfig) -> None:
    if len(skipped) > data.max_skipped * total:
        raise DitError(
            f"data.max_skipped: expected at most {data.max_skipped:.2%} bad images, found {len(skipped)} of "
            f"{total}; the last: {skipped[-1]}"
        )


def _apply_policy(dataset: LatentDataset, data: DataConfig) -> None:
    """Hold a finished cache to this recipe's policy: it may have been made under one that allows more."""
    skipped, index = dataset.index.skipped, dataset.folder / INDEX_NAME
    if not skipped:
        return
    if data.on_error == "stop":
        raise DitError(f"{skipped[0]} ({len(skipped)} bad images in all, listed in {index})")
    _check_skipped(skipped, len(dataset) + len(skipped), data)
    warn(f"skipped {len(skipped)} images, listed in {index}")


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Let one process at a time work on a cache; the others wait."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
