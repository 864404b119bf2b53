"""Class accuracy: how many samples a classifier takes for the class that was asked for.

Shapes: N samples in all, B of a batch, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dit.errors import ConfigError
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.metrics.metric import Figure


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
    """The verdicts of an extractor's classifier; a `Metric`.

    Args:
        known: the classifier's class names in the order of its logits; empty where it has none.
        class_names: names of the K classes that the labels number. The classifier judges only where it knows them all,
            in whatever order it has them itself.
        features: which features are its logits.
    """

    reference = "none"
    names = ("accuracy",)

    def __init__(self, known: Sequence[str], class_names: Sequence[str], features: str = "logits") -> None:
        self.features = features
        self._known = known
        number_of = {name: number for number, name in enumerate(known)}
        judges = len(class_names) > 0 and number_of.keys() >= set(class_names)
        self._numbers = torch.tensor([number_of[name] for name in class_names]) if judges else None  # (K,)

    def num_needed(self, width: int) -> int:
        """Return what a share can be told of."""
        return 1

    def check(self, labels: Tensor | None) -> None:
        """Refuse labels that nothing can be said of.

        Raises:
            ConfigError: there are none, or they number classes that the classifier does not know.
        """
        if labels is None:
            raise ConfigError(
                "accuracy: expected the class of every sample (arr_1 of an .npz, labels.json beside PNGs), found none; "
                "add them, or leave it out by --metrics"
            )
        if self._numbers is None:
            raise ConfigError(
                f"accuracy: expected a classifier that knows the samples' classes, found one of {len(self._known)} "
                "others; choose another by --features"
            )
        if not 0 <= int(labels.min()) <= int(labels.max()) < len(self._numbers):
            raise ConfigError(
                f"accuracy: expected labels from 0 to {len(self._numbers) - 1}, which number the classifier's classes, "
                f"found {int(labels.min())} to {int(labels.max())}"
            )

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> dict[str, Figure]:
        """Return the share of samples that are taken for their label, whatever the reference."""
        found = self.of(samples)
        return {} if found is None else {"accuracy": Figure(found.overall, standard_error=found.standard_error)}

    def verdicts(self, images: FeatureSet) -> Tensor | None:
        """Return whether each image is taken for its label (N,) bool; None where the classes are not known."""
        labels = images.labels
        if self._numbers is None or labels is None:
            return None
        return images.rows(self.features).argmax(dim=1) == self._numbers[labels]

    def of(self, images: FeatureSet) -> Accuracy | None:
        """Return the verdicts on images, by class too; None where the classifier does not know the classes."""
        labels, is_right = images.labels, self.verdicts(images)
        if self._numbers is None or labels is None or is_right is None:
            return None
        asked, right = self._numbers[labels], is_right.double()  # (N,)
        numbers: list[int] = asked.unique().tolist()
        by_class = {self._known[number]: right[asked == number].mean().item() for number in numbers}
        return Accuracy(overall=right.mean().item(), by_class=by_class, num=len(asked))
