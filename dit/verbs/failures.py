"""Samples that the classifier did not take for the class that was asked for, as a picture for the card."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from dit.evaluation.evaluate import EvaluatedBatch

NAME = "failures.png"
MAX_SHOWN = 64
COLUMNS = 16


@dataclass
class Failures:
    """Collects the first failures of an evaluation; give it as its callback."""

    images: list[tuple[int, Tensor]] = field(default_factory=list)
    """Class that was asked for, and the image (C, H, W) uint8."""

    def __call__(self, batch: "EvaluatedBatch") -> None:
        """Keep what is wrong in a batch, while there is room."""
        if batch.is_right is not None:
            for i in (~batch.is_right).nonzero().flatten().tolist()[: MAX_SHOWN - len(self.images)]:
                self.images.append((int(batch.labels[i]), batch.images[i]))

    def save(self, path: Path) -> None:
        """Write the picture, sorted by class; where there is no failure, remove an older one."""
        import torch

        from dit.data.picture import image_grid

        if not self.images:
            path.unlink(missing_ok=True)
            return
        images = [image for _, image in sorted(self.images, key=lambda item: item[0])]
        image_grid(torch.stack(images), columns=COLUMNS).save(path)
