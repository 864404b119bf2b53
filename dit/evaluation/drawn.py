"""Images that a model makes while they are measured: described at once and not kept, in parts beside the report.

The parts are claimed by all that decides them, and removed when the report is written. They are no cache: an evaluation
that ended begins anew.

Shapes: N images in all, B of a batch, C channels, H x W pixels.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dit.errors import DitError
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.parts import Part, make_part, read_parts, write_parts
from dit.files import begin_folder, check_same
from dit.launcher import ALONE, Share

SETTINGS_NAME = "settings.json"
NUM_CALLS = "num_calls"
"""Network calls for each image, beside its features."""


class Sampler(Protocol):
    """Draws images and counts its network calls."""

    num_calls: int
    """Calls per image, summed over the batches so far."""

    def __call__(self, labels: Tensor, positions: list[int], /) -> Tensor:
        """Return an image for each class (B,) int64 at its global position: uint8 (B, C, H, W)."""
        ...


@dataclass(frozen=True)
class Drawn:
    """Images of one size, in their order, that are not made yet."""

    labels: Tensor
    """(N,) int64 class of each."""
    size: tuple[int, int]
    """H and W."""
    sampler: Sampler
    """Makes them."""
    about: Mapping[str, Any]
    """Everything that decides the pixels but the labels, as JSON values."""
    batch_size: int
    """B: images that are made and described at a time."""
    folder: Path
    """Where the parts lie meanwhile."""

    @property
    def num(self) -> int:
        """N."""
        return len(self.labels)

    def write(
        self, describe: Callable[[Tensor], Part], described_by: Any, *, title: str = "samples", share: Share = ALONE
    ) -> None:
        """Make and describe the images that are missing, as far as they are this process's share.

        Args:
            describe: from images (B, C, H, W) uint8 to features by name.
            described_by: what identifies it, as JSON values.
            title: what progress calls them.
            share: which of how many processes this is.

        Raises:
            ConfigError: the folder holds parts of other settings.
            DitError: the model made something else than it should.
        """
        facts = {**self.about, "described_by": described_by, "labels": self.labels.tolist()}
        settings = self.folder / SETTINGS_NAME
        check_same(settings, begin_folder(settings, facts), facts, remedy="choose another --out")
        write_parts(
            self.folder,
            self.num,
            self.batch_size,
            lambda starts: self._parts(starts, describe),
            title=title,
            share=share,
        )

    def read(self) -> FeatureSet:
        """Return the features of all images, once all parts are there."""
        return read_parts(self.folder, self.num, self.batch_size, FeatureSet(labels=self.labels))

    def images(self, positions: Sequence[int]) -> Tensor:
        """Make some of the images again (B, C, H, W), which rounding may make differ a little."""
        return self.sampler(self.labels[list(positions)], list(positions)).cpu()

    def remove(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _parts(self, starts: Sequence[int], describe: Callable[[Tensor], Part]) -> Iterator[Part]:
        for start in starts:
            labels = self.labels[start : start + self.batch_size]
            # The last batch is filled up, so that the shapes, and with them the rounding, are those of all others.
            filled = torch.cat([labels, labels.new_zeros(self.batch_size - len(labels))])
            before = self.sampler.num_calls
            images = self.sampler(filled, list(range(start, start + self.batch_size)))
            self._check(images)
            images = images[: len(labels)]
            calls = torch.full((len(labels),), float(self.sampler.num_calls - before))
            yield {**make_part(images, describe), NUM_CALLS: calls}

    def _check(self, images: Tensor) -> None:
        if len(images) != self.batch_size:
            raise DitError(f"sampler: expected {self.batch_size} images, found {len(images)}")
        if (size := tuple(images.shape[-2:])) != self.size:
            raise DitError(
                f"images: expected {self.size[0]} x {self.size[1]} pixels as the reference images, found "
                f"{size[0]} x {size[1]}; evaluate against images of the samples' resolution"
            )
