"""A set of images as the metrics see it: batches are described by an extractor, and only the features are kept.

Shapes: B images of a batch, C channels, H and W pixels, K classes.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from dit.errors import DitError
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.metrics.accuracy import Accuracy, ClassAccuracy
from dit.evaluation.metrics.frechet import FrechetDistance
from dit.evaluation.metrics.metric import Figure
from dit.evaluation.metrics.neighbours import EXACT
from dit.evaluation.metrics.precision_recall import PrecisionRecall
from dit.evaluation.parts import Part, make_part

MOST_COMPARED = 10_000
"""Images whose features are compared pair by pair, as many as ADM takes of its reference; more would take minutes."""


class DescribedImages:
    """What an extractor says of one set of images, with the hash of the pixels.

    Args:
        extractor: describes the images.
        class_names: names of the K classes that the labels number.
        size: height and width that every image must have; None: those of the first batch.
    """

    def __init__(
        self, extractor: FeatureExtractor, class_names: Sequence[str], *, size: tuple[int, int] | None = None
    ) -> None:
        self.size = size
        self.num_features = extractor.num_features
        self.features = FeatureSet()
        self._classes = ClassAccuracy(extractor.class_names or (), class_names)
        self._extractor = extractor

    @property
    def count(self) -> int:
        """Number of images so far."""
        return self.features.num

    @property
    def accuracy(self) -> Accuracy | None:
        """The classifier's verdicts so far; None where it does not know the classes."""
        return self._classes.of(self.features)

    def frechet(self, reference: "DescribedImages") -> Figure:
        """Return the Frechet distance from a reference."""
        (figure,) = FrechetDistance("frechet", "features").measure(self.features, reference.features).values()
        return figure

    def precision_recall(self, reference: "DescribedImages") -> Mapping[str, Figure]:
        """Return improved precision and recall beside a reference by name; nothing of too few or too many images."""
        metric = PrecisionRecall(EXACT, "features")
        counts = self.count, reference.count
        if min(counts) < metric.num_needed(self.num_features) or max(counts) > MOST_COMPARED:
            return {}
        return metric.measure(self.features, reference.features)

    @property
    def sha256(self) -> str:
        """Hash of the hashes of all images' pixels, in their order."""
        return self.features.pixels_sha256

    @property
    def is_right(self) -> Tensor | None:
        """(N,) bool, whether the classifier agrees with each label; None where it does not know the classes."""
        return self._classes.verdicts(self.features)

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add images uint8 (B, C, H, W) with their labels (B,) int64.

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
        self.features.add(make_part(images, self.describe), labels)

    def describe(self, images: Tensor) -> Part:
        """Return what the extractor says of images uint8 (B, C, H, W), in float32."""
        described = self._extractor(images)
        logits = {} if described.logits is None else {"logits": described.logits.float()}
        return {"features": described.features.float(), **logits}
