"""Features of many images, a file per batch in the cache: what an interrupted evaluation computed is not lost.

A part is named by the position of its first image, in a folder that is named by all that decides its bytes: the images,
the networks with their weights and resizing, the batch size and the kind of device.

Shapes: B images of a batch.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import torch
from safetensors.torch import save

from dit.display import Progress
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.image_files import ImageFiles
from dit.evaluation.moments import Gaussian
from dit.evaluation.networks.network import LoadedNetwork, MetricNetwork, describe
from dit.files import cache_folder, write_bytes

FORMAT = 1

Networks = Mapping[str, tuple[MetricNetwork, LoadedNetwork]]
"""Name -> a network, and the same with its weights."""


def load_networks(networks: tuple[MetricNetwork, ...], device: torch.device) -> Networks:
    """Load networks onto a device.

    Raises:
        DitError: the weights of one can't be had.
    """
    return {network.name: (network, network.load(device)) for network in networks}


def describe_files(
    images: ImageFiles,
    networks: Networks,
    *,
    device: torch.device,
    batch_size: int,
    title: str,
    gaussians: Mapping[str, Gaussian] | None = None,
) -> FeatureSet:
    """Return the features of all images; parts that are in the cache already are not computed again.

    Args:
        images: N images.
        networks: from `load_networks`, on `device`.
        device: where to compute.
        batch_size: images at a time.
        title: what progress calls them.
        gaussians: mean and covariance of features that are known already.

    Raises:
        DitError: an image is broken or of another size, or features are not finite.
    """
    folder = cache_folder("features") / _key(images, networks, device, batch_size)
    starts = range(0, images.num, batch_size)
    paths = {start: folder / f"{start:08d}.safetensors" for start in starts}
    missing = {start for start in starts if not paths[start].is_file()}
    if missing:
        with Progress(images.num, title) as shown:
            for start, batch in zip(starts, images.batches(batch_size), strict=True):
                if start in missing:
                    write_bytes(paths[start], save(describe_batch(batch, networks, device)))
                shown.advance(len(batch))
    features = FeatureSet(labels=images.labels, gaussians=gaussians)
    for start, path in paths.items():
        features.add_file(path, min(batch_size, images.num - start))
    return features


def describe_batch(batch: np.ndarray, networks: Networks, device: torch.device) -> dict[str, torch.Tensor]:
    """Return all features of images (B, H, W, 3) uint8 by name, float32 on the CPU."""
    images = torch.tensor(batch).permute(0, 3, 1, 2).to(device)  # (B, 3, H, W)
    found: dict[str, torch.Tensor] = {}
    for network, loaded in networks.values():
        found |= describe(network, loaded, images)
    return {name: values.contiguous() for name, values in found.items()}


def _key(images: ImageFiles, networks: Networks, device: torch.device, batch_size: int) -> str:
    described = [(net.name, net.preprocessing, loaded.weights_sha256) for net, loaded in networks.values()]
    facts = [FORMAT, images.sha256, images.num, described, batch_size, device.type]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
