"""Images in, figures out: batches are described by an extractor and accumulated, none is kept.

Shapes: B images of a batch, C channels, H and W pixels, K classes.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from dit.errors import DitError
from dit.evaluation.features import FeatureExtractor
from dit.evaluation.metrics import Accuracy, Moments, class_accuracy


class Measurement:
    """Mean and covariance of features, and the classifier's verdicts, over batches of images.

    Args:
        extractor: describes the images.
        class_names: names of the K classes that the labels number. The classifier judges only where it knows them all,
            in whatever order it has them itself.
        size: height and width that every image must have; None: those of the first batch.
    """

    def __init__(
        self, extractor: FeatureExtractor, class_names: Sequence[str], *, size: tuple[int, int] | None = None
    ) -> None:
        self.moments = Moments(extractor.num_features)
        self.size = size
        self._extractor = extractor
        self._classes = _classes_of(extractor, class_names)
        self._predicted: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._digest = hashlib.sha256()

    @property
    def count(self) -> int:
        """Number of images so far."""
        return self.moments.count

    @property
    def sha256(self) -> str:
        """Hash of all pixels so far, in their order."""
        return self._digest.hexdigest()

    @property
    def accuracy(self) -> Accuracy | None:
        """Share of images that are classified as their label; None where the classifier does not know the classes.

        Its classes are numbered as the extractor numbers them.
        """
        if not self._predicted:
            return None
        return class_accuracy(torch.cat(self._predicted), torch.cat(self._labels))

    def update(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """Add images uint8 (B, C, H, W) with their labels (B,) int64.

        Returns:
            (B,) bool, whether the classifier agrees with each label; None where it does not know the classes.

        Raises:
            DitError: images of another size than the others, or of a kind that the extractor does not take.
        """
        size = (images.shape[-2], images.shape[-1])
        self.size = self.size or size
        if size != self.size:
            raise DitError(
                f"images: expected {self.size[0]} x {self.size[1]} pixels as the reference images, found "
                f"{size[0]} x {size[1]}; evaluate against images of the samples' resolution"
            )
        self._digest.update(images.cpu().numpy().tobytes())
        described = self._extractor(images)
        self.moments.update(described.features)
        if described.logits is None or self._classes is None:
            return None
        predicted, asked = described.logits.argmax(dim=1), self._classes[labels.cpu()]  # (B,), (B,)
        self._predicted.append(predicted)
        self._labels.append(asked)
        return predicted == asked


def _classes_of(extractor: FeatureExtractor, class_names: Sequence[str]) -> Tensor | None:
    """Return the extractor's number for each class (K,), or None where it does not know them all by name."""
    known = {name: index for index, name in enumerate(extractor.class_names or ())}
    if not class_names or not known.keys() >= set(class_names):
        return None
    return torch.tensor([known[name] for name in class_names])
