"""What every figure of samples has in common; each is a file beside this one."""

from typing import Protocol, Self

from torch import Tensor

from dit.evaluation.extractors import Features


class Metric(Protocol):
    """A figure of one set of images, accumulated over batches; the images themselves are not kept."""

    def update(self, described: Features, labels: Tensor, /) -> None:
        """Add what an extractor says about B images, whose classes are (B,) int64."""
        ...

    def value(self, reference: Self) -> float | None:
        """Return the figure of the images so far, beside the same metric of held-out ones; None where it has none."""
        ...
