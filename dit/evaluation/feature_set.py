"""What a network says of a set of images, in parts: tensors in memory, or files that are read when they are asked for.

Shapes: N images in all, B of a part, D features.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from dit.errors import DitError
from dit.evaluation.moments import Gaussian, Moments

PIXELS = "pixels_sha256"
"""Name of the hash of each image's pixels (B, 32) uint8, which lies beside the features of a part."""
ROWS_AT_ONCE = 2048
"""Rows of features that are converted to float64 together."""


class FeatureSet:
    """Named features of N images; the images themselves are not kept.

    Args:
        labels: (N,) int64 classes of all images, where they are known beforehand; parts may bring theirs.
        gaussians: of features whose mean and covariance are known, such as a published reference's.
    """

    def __init__(self, *, labels: Tensor | None = None, gaussians: Mapping[str, Gaussian] | None = None) -> None:
        self.num = 0
        self._parts: list[Mapping[str, Tensor] | tuple[Path, int]] = []
        self._labels = [] if labels is None else [labels]
        self._gaussians = dict(gaussians or {})

    def add(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> None:
        """Add a part: features (B, D) by name, finite, in float32 on the CPU, and its labels (B,) int64."""
        part = dict(features)
        self.num += len(next(iter(part.values())))
        self._parts.append(part)
        if labels is not None:
            self._labels.append(labels)

    def add_file(self, path: Path, num: int) -> None:
        """Add a part of `num` rows that lies in a safetensors file, a tensor (B, D) by each name."""
        self.num += num
        self._parts.append((path, num))

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64 classes of the images; None where they are not known."""
        labels = torch.cat(self._labels) if self._labels else torch.empty(0)
        return labels if 0 < len(labels) == self.num else None

    def rows(self, name: str) -> Tensor:
        """Return all features of a name: (N, D) float32.

        Raises:
            DitError: nothing but their mean and covariance is known, or there are none of that name.
        """
        if not self._parts:
            raise DitError(
                f"reference: expected images to compute {name} features of, found mean and covariance alone; leave out "
                "the metrics that compare images, or take another reference"
            )
        found, start = torch.empty(0), 0
        for part in self._read(name):  # one at a time: all of them would take as much again
            if start == 0:
                found = torch.empty(self.num, *part.shape[1:])
            found[start : start + len(part)] = part
            start += len(part)
        return found

    @property
    def pixels_sha256(self) -> str:
        """Hash of the hashes of all images' pixels, in their order."""
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in self._read(PIXELS))).hexdigest()

    def gaussian(self, name: str) -> Gaussian:
        """Return mean and covariance of the features of a name.

        Raises:
            DitError: there are none of that name, or fewer than two rows.
        """
        if name not in self._gaussians:
            rows = self.rows(name)
            moments = Moments(rows.shape[1])
            for block in rows.split(ROWS_AT_ONCE):
                moments.update(block)
            self._gaussians[name] = moments.gaussian()
        return self._gaussians[name]

    def _read(self, name: str) -> Iterator[Tensor]:
        for part in self._parts:
            if isinstance(part, tuple):
                path, num = part
                with safe_open(path, "pt") as file:
                    if name not in file.keys():  # noqa: SIM118 - not a dict
                        raise DitError(f"{path}: expected features {name}, found {', '.join(file.keys())}")
                    values = file.get_tensor(name)
                if len(values) != num:
                    raise DitError(f"{path}: expected {num} rows, found {len(values)}; remove the file")
                yield values
            else:
                if name not in part:
                    raise DitError(f"features: expected {name}, found {', '.join(part)}")
                yield part[name]
