"""Make a reference of one's own images: ADM's arrays, and how they came about.

Shapes: N images, M of them kept, R pixels a side.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dit.data.image_source import ImageSource
from dit.display import Progress
from dit.evaluation.feature_parts import Networks, describe_batch
from dit.evaluation.moments import Moments
from dit.evaluation.references.reference import SUFFIXES
from dit.evaluation.versions import package_versions
from dit.npz import write_npz

CROP = "adm"
"""Name of the crop of `dit.data.decode.crop`."""


def write_reference(
    source: ImageSource,
    path: Path,
    networks: Networks,
    *,
    num_kept: int,
    device: torch.device,
    batch_size: int,
    facts: Mapping[str, Any],
) -> None:
    """Describe all images of a source, and write their mean and covariance with some of them.

    Args:
        source: N images of R x R, RGB.
        path: the `.npz` file.
        networks: from `load_networks`, on `device`.
        num_kept: M, evenly spread over the source, for the metrics that compare images.
        device: where to compute.
        batch_size: images at a time.
        facts: what else is recorded.

    Raises:
        DitError: an image is broken, or features are not finite; no file is left.
    """
    num, size = len(source), source.read(0).shape[0]
    kept = np.zeros(num, dtype=bool)
    kept[np.arange(min(num_kept, num)) * num // min(num_kept, num)] = True
    widths = {name: width for network, _ in networks.values() for name, width in network.widths.items()}
    moments = {name: Moments(width) for name, width in widths.items() if name in SUFFIXES}
    with write_npz(path) as npz:
        with npz.rows("arr_0", (int(kept.sum()), size, size, 3), "uint8") as file, Progress(num, "reference") as shown:
            for start in range(0, num, batch_size):
                rows = range(start, min(start + batch_size, num))
                batch = np.stack([source.read(row) for row in rows])  # (B, R, R, 3)
                features = describe_batch(torch.from_numpy(batch).permute(0, 3, 1, 2), networks, device)
                for name, found in moments.items():
                    found.update(features[name])
                file.write(batch[kept[start : rows.stop]].tobytes())
                shown.advance(len(batch))
        for name, found in moments.items():
            npz.write(f"mu{SUFFIXES[name]}", found.mean.numpy())
            npz.write(f"sigma{SUFFIXES[name]}", found.covariance.numpy())
        npz.write("about", np.array(json.dumps(_about(source, size, networks, facts))))


def _about(source: ImageSource, size: int, networks: Networks, facts: Mapping[str, Any]) -> dict[str, Any]:
    by_feature = [(name, network, loaded) for network, loaded in networks.values() for name in network.widths]
    return {
        "num": len(source),
        "resolution": size,
        "crop": CROP,
        "fingerprint": source.fingerprint,
        "preprocessing": {name: network.preprocessing for name, network, _ in by_feature},
        "weights_sha256": {name: loaded.weights_sha256 for name, _, loaded in by_feature},
        "versions": package_versions(),
        **facts,
    }
