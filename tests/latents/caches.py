"""Finished caches of random moments, written by hand, and data sets of others with the same numbers."""

import torch

from dit.files import write_json
from dit.latents.shards import INDEX_NAME, Identity, Index, write_part


def random_moments(num, num_moments=8, side=4, views=2, seed=0):
    """(num, V, M, side, side); log-variances near those of an autoencoder."""
    moments = torch.randn(num, views, num_moments, side, side, generator=torch.Generator().manual_seed(seed))
    moments[:, :, num_moments // 2 :] -= 5
    return moments


def write_cache(
    folder,
    moments,
    *,
    channels,
    vae,
    labels=None,
    part=4,
    source="photos (train)",
    classes=("a", "b", "c"),
    vae_name="vae",
    skipped=(),
    downscale=2,
):
    """Write moments (N, V, M, h, w) in parts of so many."""
    labels = torch.arange(len(moments)) % len(classes) if labels is None else labels
    identity = Identity(
        data=f"d{len(moments)}", vae=vae, flip=moments.shape[1] == 2, storage="float32", precision="float32",
        batch_size=4,
    )  # fmt: skip
    folder.mkdir(parents=True)
    entries = []
    for number, start in enumerate(range(0, len(moments), part)):
        rows = torch.arange(start, min(start + part, len(moments)))
        path = folder / f"part-{number:05}.safetensors"
        entries.append(
            write_part(path, moments[rows], labels[rows], rows, fingerprint=identity.fingerprint, skipped=[])
        )
    index = Index(
        fingerprint=identity.fingerprint,
        identity=identity,
        source=source,
        vae=vae_name,
        image_size=downscale * moments.shape[-1],
        latents_shape=(channels, *moments.shape[-2:]),
        num_moments=moments.shape[2],
        class_names=classes,
        parts=tuple(entries),
        skipped=tuple(skipped),
    )
    write_json(folder / INDEX_NAME, index.model_dump(mode="json"))
    return folder


def write_splits(folder, vae, *, num=(11, 5), **options):
    """Write both splits as `dit encode` leaves them, of a Gaussian autoencoder of 4 channels."""
    for split, size in zip(("train", "val"), num, strict=True):
        moments = random_moments(size, views=2 if split == "train" else 1, seed=size)
        write_cache(
            folder / f"{split}-{vae[:1] * 24}", moments, channels=4, vae=vae, source=f"photos ({split})", **options
        )
    return folder
