"""A set of images as the metrics see it: batches are described by an extractor and accumulated, none is kept.

Shapes: B images of a batch, C channels, H and W pixels, K classes.
"""

import hashlib
from collections.abc import Sequence

from torch import Tensor

from dit.errors import DitError
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.metrics.accuracy import ClassAccuracy
from dit.evaluation.metrics.frechet import FrechetDistance
from dit.evaluation.metrics.metric import Metric


class DescribedImages:
    """Every metric of one set of images, with the hash of the pixels.

    Args:
        extractor: describes the images.
        class_names: names of the K classes that the labels number.
        size: height and width that every image must have; None: those of the first batch.
    """

    def __init__(
        self, extractor: FeatureExtractor, class_names: Sequence[str], *, size: tuple[int, int] | None = None
    ) -> None:
        self.count = 0
        self.size = size
        self.frechet = FrechetDistance(extractor.num_features)
        self.classes = ClassAccuracy(extractor.class_names or (), class_names)
        self.metrics: tuple[Metric, ...] = (self.frechet, self.classes)
        self._extractor = extractor
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hash of all pixels so far, in their order."""
        return self._digest.hexdigest()

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
        for metric in self.metrics:
            metric.update(described, labels)
        self.count += len(images)
        return self.classes.judge(described, labels)
