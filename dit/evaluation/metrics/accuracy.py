"""Class accuracy: how many samples a classifier takes for the class that was asked for.

Shapes: N samples in all, B of a batch, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dit.evaluation.extractors import Features


@dataclass(frozen=True)
class Accuracy:
    """How many samples a classifier takes for what they should be."""

    overall: float
    """Share in [0, 1] of all samples."""
    by_class: dict[str, float]
    """Share in [0, 1] for each class that occurs among the labels, in the classifier's order."""
    num: int
    """Number of samples."""

    @property
    def standard_error(self) -> float:
        """Standard error of the overall share, as of independent samples."""
        return (self.overall * (1 - self.overall) / self.num) ** 0.5


class ClassAccuracy:
    """The verdicts of an extractor's classifier over batches of images; a `Metric`.

    Args:
        known: the classifier's class names in the order of its logits; empty where it has none.
        class_names: names of the K classes that the labels number. The classifier judges only where it knows them all,
            in whatever order it has them itself.
    """

    def __init__(self, known: Sequence[str], class_names: Sequence[str]) -> None:
        self._known = known
        number_of = {name: number for number, name in enumerate(known)}
        judges = len(class_names) > 0 and number_of.keys() >= set(class_names)
        self._numbers = torch.tensor([number_of[name] for name in class_names]) if judges else None  # (K,)
        self._asked: list[Tensor] = []
        self._is_right: list[Tensor] = []

    def judge(self, described: Features, labels: Tensor) -> Tensor | None:
        """Compare with labels (B,) int64: (B,) bool, right or not; None where the classes are not known."""
        if described.logits is None or self._numbers is None:
            return None
        return described.logits.argmax(dim=1) == self._numbers[labels.cpu()]

    def update(self, described: Features, labels: Tensor, /) -> None:
        """Add a batch of described images with their labels (B,) int64."""
        is_right = self.judge(described, labels)
        if is_right is not None and self._numbers is not None:
            self._is_right.append(is_right)
            self._asked.append(self._numbers[labels.cpu()])

    def value(self, reference: "ClassAccuracy") -> float | None:
        """Return the share of images that are taken for their label, whatever the reference."""
        return None if self.accuracy is None else self.accuracy.overall

    @property
    def accuracy(self) -> Accuracy | None:
        """The verdicts so far; None where the classifier does not know the classes."""
        if not self._asked:
            return None
        asked, right = torch.cat(self._asked), torch.cat(self._is_right).double()  # (N,)
        numbers: list[int] = asked.unique().tolist()
        by_class = {self._known[number]: right[asked == number].mean().item() for number in numbers}
        return Accuracy(overall=right.mean().item(), by_class=by_class, num=len(asked))
