"""Features of images that lie in files, in parts in the cache: what an interrupted evaluation computed is not lost.

The parts lie in a folder that is named by all that decides their bytes: the images, the networks with their weights and
resizing, the batch size and the kind of device.

Shapes: B images of a batch.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.image_files import ImageFiles
from dit.evaluation.moments import Gaussian
from dit.evaluation.networks.network import LoadedNetwork, MetricNetwork, describe
from dit.evaluation.parts import Part, parts_of_arrays, read_parts, write_parts
from dit.files import cache_folder
from dit.launcher import ALONE, Share

FORMAT = 2

Networks = Mapping[str, tuple[MetricNetwork, LoadedNetwork]]
"""Name -> a network, and the same with its weights."""


def load_networks(networks: tuple[MetricNetwork, ...], device: torch.device) -> Networks:
    """Load networks onto a device.

    Raises:
        DitError: the weights of one can't be had.
    """
    return {network.name: (network, network.load(device)) for network in networks}


def write_file_parts(
    images: ImageFiles,
    networks: Networks,
    *,
    device: torch.device,
    batch_size: int,
    title: str,
    share: Share = ALONE,
) -> None:
    """Compute the features of images that are not in the cache, as far as they are this process's share.

    Args:
        images: N images.
        networks: from `load_networks`, on `device`.
        device: where to compute.
        batch_size: images at a time.
        title: what progress calls them.
        share: which of how many processes this is.

    Raises:
        DitError: an image is broken or of another size, or features are not finite.
    """
    write_parts(
        _folder(images, networks, device, batch_size),
        images.num,
        batch_size,
        lambda starts: parts_of_arrays(
            images.batches(batch_size, starts), lambda batch: describe_batch(batch, networks, device)
        ),
        title=title,
        share=share,
    )


def read_file_parts(
    images: ImageFiles,
    networks: Networks,
    *,
    device: torch.device,
    batch_size: int,
    gaussians: Mapping[str, Gaussian] | None = None,
) -> FeatureSet:
    """Return the features of all images; `gaussians`: mean and covariance of features that are known already."""
    features = FeatureSet(labels=images.labels, gaussians=gaussians)
    return read_parts(_folder(images, networks, device, batch_size), images.num, batch_size, features)


def describe_batch(images: Tensor, networks: Networks, device: torch.device) -> Part:
    """Return all features of images (B, 1 or 3, H, W) uint8 by name, float32 on the CPU."""
    images = images.to(device).expand(-1, 3, -1, -1)
    found: Part = {}
    for network, loaded in networks.values():
        found |= describe(network, loaded, images)
    return found


def network_facts(networks: Networks) -> list[list[str]]:
    """Return what identifies the networks: name, resizing and weights."""
    return [[network.name, network.preprocessing, loaded.weights_sha256] for network, loaded in networks.values()]


def _folder(images: ImageFiles, networks: Networks, device: torch.device, batch_size: int) -> Path:
    facts = [FORMAT, images.sha256, images.num, network_facts(networks), batch_size, device.type]
    return cache_folder("features") / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
