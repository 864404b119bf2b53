"""Encoding a data set once: images in, a folder of moments out, by any number of processes.

Moments are kept rather than one draw, so that every epoch draws anew. The cache's name is a hash of everything that
the moments depend on. Every process that wants it takes parts that no other has, until all are there; the same command
finishes an encoding that was cut off. Bytes depend neither on the number of processes nor on interruptions.
"""

import errno
import shutil
import time

from dit.data.config import DataConfig
from dit.display import Progress, in_bytes
from dit.errors import DitError
from dit.latents.claims import Claims
from dit.latents.config import LatentsConfig
from dit.latents.dataset import LatentDataset
from dit.latents.part_encoder import PartEncoder
from dit.latents.plan import EncodesImages, Plan, make_plan
from dit.latents.skipped import apply_policy
from dit.latents.working import WorkingFolder
from dit.launcher import is_main
from dit.signals import StopSignals

WAIT_SECONDS = 0.5
"""Between two looks at what other processes have finished."""


def encode_dataset(
    data: DataConfig,
    latents: LatentsConfig,
    codec: EncodesImages,
    split: str = "train",
) -> LatentDataset:
    """Return the moments of one split, encoding what is not in the cache yet.

    Args:
        data: the images.
        latents: batch size, precision, storage and cache folder; its autoencoder is `codec`.
        codec: from `load_codec`, or an encoder of features.
        split: "train" or "val"; only training images are mirrored.

    Raises:
        ConfigError: the images can't be encoded with this autoencoder.
        DitError: an image is broken, the disk is full, or the folder of this cache holds latents of other data or
            another autoencoder.
        Preempted: a signal came; the same call goes on.
    """
    plan = make_plan(data, latents, codec, split)
    working = WorkingFolder(plan)
    if not working.is_finished():
        _encode(plan, working)
    working.tidy()
    dataset = LatentDataset(plan.target)
    found = dataset.index.identity
    if found.model_copy(update={"batch_size": plan.identity.batch_size}) != plan.identity:
        raise DitError(
            f"{plan.target}: fingerprint mismatch, expected {plan.identity}, found {found}; remove the folder"
        )
    apply_policy(dataset, data)
    return dataset


def _encode(plan: Plan, working: WorkingFolder) -> None:
    """Take part in the encoding until the cache is finished."""
    try:
        with StopSignals() as signals, Claims(plan.target.parent / f".{plan.target.name}.lock") as claims:
            done = sum(working.num_done().values())
            with Progress(
                len(plan.images),
                f"encode {plan.split}",
                start=done,
                unit_bytes=plan.image_bytes,
                enabled=is_main(),
            ) as progress:
                _work(plan, working, claims, PartEncoder(plan, working, claims, progress, signals))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DitError(_describe_full_disk(plan, working)) from error


def _work(plan: Plan, working: WorkingFolder, claims: Claims, encoder: PartEncoder) -> None:
    index = len(plan.parts)  # claimed like a part
    while not working.is_finished():
        if encoder.encode_missing():
            continue
        if encoder.look() and claims.take(index):
            if not working.is_finished():
                working.finish()
            claims.release(index)
        else:
            time.sleep(WAIT_SECONDS)
    encoder.look()


def _describe_full_disk(plan: Plan, working: WorkingFolder) -> str:
    num_done = sum(len(plan.parts[number]) for number in working.finished())
    needed = (len(plan.images) - num_done) * plan.image_bytes - shutil.disk_usage(plan.target.parent).free
    return (
        f"{working.path}: the disk is full; {num_done:,} of {len(plan.images):,} images are encoded and stay valid, "
        f"{in_bytes(max(needed, 0))} are missing for the rest; make room and repeat the command"
    )
