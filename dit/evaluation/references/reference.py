"""A reference: mean and covariance of real images in the features of a network, and some of the images themselves.

| file | holds |
| --- | --- |
| ADM's `VIRTUAL_*.npz` | `mu`, `sigma`, `mu_s`, `sigma_s` of all training images, `arr_0`: 10,000 of them |
| JiT's `jit_in*_stats.npz` | `mu`, `sigma` |
| EDM2's `.pkl` | `fid` and `fd_dinov2`, each `mu` and `sigma` |
| `dit reference` | ADM's names, `mu_dinov2` and `sigma_dinov2`, and `about`: how it was made, in JSON |

Figures of different references don't compare, so what a file says of itself is held against what is measured.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from dit.errors import ConfigError, DitError
from dit.evaluation.image_files import ImageFiles, open_npz
from dit.evaluation.metrics.frechet import without_negative
from dit.evaluation.moments import Gaussian
from dit.evaluation.networks.network import MetricNetwork
from dit.evaluation.references.numpy_pickle import load_numpy_pickle
from dit.files import sha256
from dit.npz import NpzReader
from dit.validation import validate

SUFFIXES = {"pool": "", "spatial": "_s", "class_token": "_dinov2"}
"""Features -> what follows mu and sigma in the name of their arrays."""
EDM2 = {"pool": "fid", "class_token": "fd_dinov2"}
KNOWN = {
    "412046720c0d496dc6d72a30eac3e22b9ef6ddac3501cce7f996674ad227ba4c": ("JiT's of ImageNet", 256),
    "cdd15b54f9d1f26a881fcdc920a3410fa7a934047d6c4f5b8395b87182a9ab42": ("JiT's of ImageNet", 512),
}
"""SHA-256 of a published file -> what it is, and its resolution."""
PUBLISHED = {
    "pool": "tensorflow_bilinear to 299",
    "spatial": "tensorflow_bilinear to 299",
    "class_token": "torch_bicubic to 224",
}
"""Features -> how the images of a published file were resized."""
SYMMETRIC = 1e-6
"""Largest asymmetry of a covariance, relative to its largest entry, that rounding to float32 may leave."""


@dataclass(frozen=True)
class Reference:
    """Real images as the metrics know them."""

    name: str
    """Name of the file."""
    sha256: str
    """Hash of the file."""
    gaussians: Mapping[str, Gaussian]
    """Features -> their mean and covariance."""
    images: ImageFiles | None
    """Some of the images; None where the file has none."""
    about: Mapping[str, Any]
    """What the file, or its being known, says: resolution, preprocessing and weights_sha256 of features, crop, ..."""

    def check(self, networks: Iterable[MetricNetwork], size: tuple[int, int]) -> list[str]:
        """Refuse samples of H x W and networks that it was not made for; return what can't be told.

        Raises:
            ConfigError: it is of another resolution, network or preprocessing.
        """
        found = self.about.get("resolution")
        if found is not None and (found, found) != size:
            raise ConfigError(
                f"{self.name}: expected a reference of {size[0]} x {size[1]} pixels as the samples, found one of "
                f"{found} x {found}; take one of their size"
            )
        preprocessing = PUBLISHED | dict(self.about.get("preprocessing", {}))
        for network in networks:
            for name, width in network.widths.items():
                if name not in self.gaussians:
                    continue
                if (length := len(self.gaussians[name].mean)) != width:
                    raise ConfigError(
                        f"{self.name}: expected mean and covariance of the {width} {name} features of {network.name}, "
                        f"found {length}; it is of another network"
                    )
                if preprocessing[name] != network.preprocessing:
                    raise ConfigError(
                        f"{self.name}: expected {name} features of images resized by {network.preprocessing}, found "
                        f"{preprocessing[name]}; make one by dit reference --protocol, or choose another protocol"
                    )
        return [] if found else [f"{self.name} does not tell its resolution: see to it that it is the samples'"]

    def check_weights(self, weights_sha256: Mapping[str, str]) -> None:
        """Refuse networks, by the features that they give, whose weights are not those that it was made with.

        Raises:
            DitError: they are others.
        """
        for name, found in self.about.get("weights_sha256", {}).items():
            if (expected := weights_sha256.get(name, found)) != found:
                raise DitError(
                    f"{self.name}: expected {name} features of the network with weights {expected[:8]}, found those of "
                    f"{found[:8]}; make it anew by dit reference"
                )


def open_reference(path: Path) -> Reference:
    """Open a reference; of its images nothing is read yet.

    Raises:
        ConfigError: there is no such file, or of another kind.
        DitError: it is damaged, holds pickled objects, or something that is no covariance.
    """
    if not path.is_file():
        raise ConfigError(f"--reference: expected an .npz or EDM2's .pkl, found no file {path}")
    if path.suffix.lower() == ".pkl":
        return _open_pickle(path)
    reader, digest = NpzReader(path), sha256(path)
    images = open_npz(path, digest=digest) if "arr_0" in reader.names else None
    about: Mapping[str, Any] = reader.read_json("about")
    if digest in KNOWN:
        about = {"name": KNOWN[digest][0], "resolution": KNOWN[digest][1]}
    validate(_About, about, origin=f"{path}: about")
    if images is not None:
        if images.size[0] != images.size[1]:
            raise DitError(f"{path}: expected square images, found {images.size[0]} x {images.size[1]}")
        about = {"resolution": images.size[0], **about}
    gaussians = {
        name: _gaussian(path, name, reader.read(f"mu{suffix}"), reader.read(f"sigma{suffix}"), about.get("num"))
        for name, suffix in SUFFIXES.items()
        if f"mu{suffix}" in reader.names
    }
    if not gaussians and images is None:
        raise DitError(f"{path}: expected mu and sigma, or arr_0, found {', '.join(reader.names)}")
    return Reference(path.name, digest, gaussians, images, about)


def _open_pickle(path: Path) -> Reference:
    content = load_numpy_pickle(path)
    if not isinstance(content, dict) or not any(isinstance(content.get(key), dict) for key in EDM2.values()):
        raise DitError(f"{path}: expected EDM2's statistics, fid or fd_dinov2 with mu and sigma, found others")
    gaussians = {
        name: _gaussian(path, name, content[key].get("mu"), content[key].get("sigma"), content.get("num_images"))
        for name, key in EDM2.items()
        if isinstance(content.get(key), dict)
    }
    return Reference(path.name, sha256(path), gaussians, None, {"name": "EDM2's"})


class _About(BaseModel, extra="allow"):
    """What a reference of one's own says that is relied on."""

    num: int | None = None
    """Number of images that mean and covariance are of."""
    resolution: int | None = None
    """Pixels a side."""
    preprocessing: dict[str, str] = {}
    """Features -> how the images were resized."""
    weights_sha256: dict[str, str] = {}
    """Features -> hash of the network's weights."""


def _gaussian(path: Path, name: str, mean: Any, covariance: Any, num: Any) -> Gaussian:
    """Return what two arrays say, once they are a mean and a covariance."""
    shapes = [array.shape if isinstance(array, np.ndarray) else type(array).__name__ for array in (mean, covariance)]
    is_numbers = all(isinstance(array, np.ndarray) and array.dtype.kind == "f" for array in (mean, covariance))
    if not is_numbers or mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise DitError(f"{path}: expected mean (D,) and covariance (D, D) of {name} features, found {shapes}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DitError(f"{path}: expected finite mean and covariance of {name} features, found NaN or infinity")
    if np.abs(covariance - covariance.T).max() > SYMMETRIC * np.abs(covariance).max():
        raise DitError(f"{path}: expected a symmetric covariance of {name} features, found another one")
    if not (num is None or (isinstance(num, int | np.integer) and num > 1)):
        raise DitError(f"{path}: expected the number of images, at least 2, found {num!r}")
    first, second = (torch.from_numpy(array.astype(np.float64)) for array in (mean, covariance))
    found = Gaussian(first, second, num=None if num is None else int(num))
    without_negative(torch.linalg.eigvalsh(found.covariance), f"{path}: covariance of {name} features")
    return found
