"""Samples that the classifier did not take for the class that was asked for, as a picture for the card."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dit.evaluation.drawn import Drawn

NAME = "failures.png"
MAX_SHOWN = 64
COLUMNS = 16


@dataclass
class Failures:
    """Collects the first failures of an evaluation."""

    class_names: Sequence[str]
    """Name of each class, by id."""
    images: list[tuple[int, Tensor]] = field(default_factory=list)
    """Class that was asked for, and the image (C, H, W) uint8."""

    def collect(self, drawn: Drawn, is_right: Tensor | None) -> None:
        """Make the first images (N,) that are not right anew; None: nothing is known of them."""
        if is_right is None:
            return
        wrong: list[int] = (~is_right).nonzero().flatten().tolist()[:MAX_SHOWN]
        if wrong:
            self.images += zip(drawn.labels[wrong].tolist(), drawn.images(wrong), strict=True)

    def save(self, path: Path) -> None:
        """Write the picture, sorted by class, over each image what it was to be; no failure removes an older one."""
        from PIL import Image

        from dit.data.caption import PAPER, caption
        from dit.data.picture import image_grid

        if not self.images:
            path.unlink(missing_ok=True)
            return
        found = sorted(self.images, key=lambda item: item[0])
        rows = [
            caption(
                image_grid(torch.stack([image for _, image in row]), columns=COLUMNS),
                above=[self.class_names[label] for label, _ in row],
            )
            for row in (found[first : first + COLUMNS] for first in range(0, len(found), COLUMNS))
        ]
        page = Image.new(rows[0].mode, (rows[0].width, sum(row.height for row in rows)), PAPER)
        for number, row in enumerate(rows):
            page.paste(row, (0, number * rows[0].height))
        page.save(path)
