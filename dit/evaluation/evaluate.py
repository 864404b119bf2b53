"""Draw class-balanced samples and measure them against held-out images.

The evaluation is handed a sampler and knows nothing of models. At position i it asks for class i % K; the noise of a
sample depends on the seed and its position alone, so the samples are the same whatever the batch size. The floor, the
distance of training images from the held-out ones, uses as many images as there are samples in the same class balance:
the Frechet distance is biased upwards by a finite number of samples, and so the bias is the same on both sides.

Shapes: B images of a batch, C channels, K classes of the model.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dit.data.images import ImageSource
from dit.display import Progress
from dit.errors import ConfigError
from dit.evaluation.config import EvaluationConfig
from dit.evaluation.described import DescribedImages
from dit.evaluation.drawn import NUM_CALLS, Drawn, Sampler
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.failures import Failures
from dit.evaluation.result import Evaluation, ImageSet
from dit.evaluation.versions import package_versions
from dit.launcher import ALONE, Share
from dit.rng import Purpose, permutation


@dataclass(frozen=True)
class Evaluated:
    """What is evaluated, and beside what."""

    sampler: Sampler
    """Draws samples for labels and positions with the configuration's seed."""
    config: EvaluationConfig
    """How many samples, in which batches, from which seed."""
    extractor: FeatureExtractor
    """From `load_features`."""
    class_names: Sequence[str]
    """The model's K class names; empty for an unconditional model, whose one label is 0, the null class."""
    reference: ImageSource
    """Held-out images, of the samples' resolution."""
    training: ImageSource | None = None
    """Training images, for the floor; None: no floor."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Sampling configuration, as plain values, to be recorded."""
    subject: Mapping[str, Any] = field(default_factory=dict)
    """What is evaluated (source, hash of the weights, ...), as plain values, to be recorded."""

    def drawn(self, folder: Path) -> Drawn:
        """Return the samples, whose parts lie in a folder meanwhile.

        Raises:
            ConfigError: the reference has fewer than two images.
        """
        if (num := len(self.reference)) < 2:
            raise ConfigError(f"data: expected at least 2 held-out images to evaluate against, found {num}")
        labels = balanced_labels(self.config.num, len(self.class_names))
        height, width, _ = self.reference.read(0).shape
        about = {"seed": self.config.seed, "batch_size": self.config.batch_size}
        about |= {"sampling": self.sampling, "subject": self.subject}
        return Drawn(labels, (height, width), self.sampler, about, self.config.batch_size, folder)

    def described(self) -> DescribedImages:
        """Return what holds the samples' features, none yet."""
        return DescribedImages(self.extractor, self.class_names)


def draw_share(what: Evaluated, folder: Path, share: Share) -> None:
    """Draw and describe this process's share of the samples, for the one that evaluates."""
    extractor = [what.extractor.name, what.extractor.weights_sha256]
    what.drawn(folder).write(what.described().describe, extractor, share=share)


def evaluate(
    what: Evaluated, folder: Path, *, failures: Failures | None = None, share: Share = ALONE, progress: bool = True
) -> Evaluation:
    """Measure accuracy, Frechet distance, precision and recall of samples, once all processes have drawn their share.

    Args:
        what: samples, extractor and images beside them.
        folder: where features of samples lie meanwhile; what an interrupted evaluation left there is used.
        failures: collects samples that are not taken for what was asked.
        share: which of how many processes this is.
        progress: show progress on stderr.

    Returns:
        The figures with what is needed to repeat them.

    Raises:
        ConfigError: the reference has fewer than two images, or the folder holds other features.
        DitError: samples of another size than the reference, or features that are not finite.
    """
    config, extractor, class_names = what.config, what.extractor, what.class_names
    reference, training = what.reference, what.training
    timed = _Timed(what.sampler)
    drawn = replace(what, sampler=timed).drawn(folder)
    held_out = DescribedImages(extractor, reference.class_names)
    _describe_images(held_out, reference, np.arange(len(reference)), config, title="held-out images", progress=progress)
    draw_share(replace(what, sampler=timed), folder, share)
    samples = what.described()
    samples.features = drawn.read()
    floor = floor_set = None
    if training is not None and len(training) >= 2:
        floor = DescribedImages(extractor, training.class_names, size=held_out.size)
        indices = matched_indices(training, drawn.labels, class_names)
        _describe_images(floor, training, indices, config, title="training images", progress=progress)
        floor_set = _image_set(floor, training)
    if failures is not None:
        failures.collect(drawn, samples.is_right)
    frechet, shares = samples.frechet(held_out), samples.precision_recall(held_out)
    precision, recall = shares.get("precision"), shares.get("recall")
    counts, accuracy = torch.bincount(drawn.labels, minlength=max(1, len(class_names))), samples.accuracy
    return Evaluation(
        num=config.num,
        seed=config.seed,
        num_per_class=(int(counts.min()), int(counts.max())),
        num_classes=len(class_names),
        samples_sha256=samples.sha256,
        features=extractor.name,
        num_features=extractor.num_features,
        features_sha256=extractor.weights_sha256,
        frechet_distance=frechet.value,
        frechet_standard_error=frechet.standard_error,
        frechet_floor=None if floor is None else floor.frechet(held_out).value,
        precision=precision and precision.value,
        precision_standard_error=precision and precision.standard_error,
        recall=recall and recall.value,
        recall_standard_error=recall and recall.standard_error,
        accuracy=accuracy and accuracy.overall,
        accuracy_standard_error=accuracy and accuracy.standard_error,
        accuracy_by_class=accuracy and accuracy.by_class,
        accuracy_reference=held_out.accuracy and held_out.accuracy.overall,
        reference=_image_set(held_out, reference),
        floor=floor_set,
        num_calls=samples.features.rows(NUM_CALLS).mean().item(),
        seconds_per_image=timed.seconds_per_image,
        batch_size=config.batch_size,
        sampling=dict(what.sampling),
        subject=dict(what.subject),
        versions=package_versions(),
        warnings=tuple(_warnings(samples, held_out, floor)),
    )


class _Timed:
    """A sampler, and the seconds that it took."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler, self._seconds, self._num = sampler, 0.0, 0

    @property
    def num_calls(self) -> int:
        return self._sampler.num_calls

    @property
    def seconds_per_image(self) -> float | None:
        """None where none was drawn."""
        return self._seconds / self._num if self._num else None

    def __call__(self, labels: Tensor, positions: list[int], /) -> Tensor:
        start = time.perf_counter()
        images = self._sampler(labels, positions).cpu()  # the copy waits for the device
        self._seconds += time.perf_counter() - start
        self._num += len(images)
        return images


def balanced_labels(num: int, num_classes: int) -> Tensor:
    """Return class i % num_classes for position i, or all zeros where there are no classes: (num,) int64."""
    return torch.arange(num) % max(1, num_classes)


def matched_indices(source: ImageSource, labels: Tensor, class_names: Sequence[str]) -> np.ndarray:
    """Choose as many images as there are labels, with the same number of each class as far as there are enough.

    Args:
        source: images to choose from.
        labels: (N,) int64, numbered as in `class_names`.
        class_names: where they are not the source's, the class balance can't be matched and is the source's own.

    Returns:
        At most N ascending indices; the choice is fixed.
    """
    order = permutation(0, Purpose.ORDER, len(source))
    if list(class_names) == list(source.class_names):
        shuffled = np.asarray(source.labels)[order]
        chosen = [order[shuffled == label][:count] for label, count in enumerate(np.bincount(labels.numpy()))]
        order = np.concatenate(chosen)
    return np.sort(order[: len(labels)])


def _describe_images(
    described: DescribedImages,
    source: ImageSource,
    indices: np.ndarray,
    config: EvaluationConfig,
    *,
    title: str,
    progress: bool,
) -> None:
    for batch in _batches(indices, config.batch_size, title=title, progress=progress):
        images = torch.from_numpy(np.stack([source.read(int(index)) for index in batch]))  # (B, H, W, C)
        described.update(images.permute(0, 3, 1, 2), torch.from_numpy(np.asarray(source.labels)[batch]))


def _batches(indices: np.ndarray, batch_size: int, *, title: str, progress: bool) -> Iterator[np.ndarray]:
    with Progress(len(indices), title, enabled=progress) as shown:
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            yield batch
            shown.advance(len(batch))


def _image_set(described: DescribedImages, source: ImageSource) -> ImageSet:
    assert described.size is not None
    return ImageSet(num=described.count, size=described.size, sha256=described.sha256, fingerprint=source.fingerprint)


def _warnings(samples: DescribedImages, reference: DescribedImages, floor: DescribedImages | None) -> Iterator[str]:
    for name, described in (("samples", samples), ("held-out images", reference)):
        width = described.num_features
        if described.count <= width:
            yield (
                f"{described.count} {name} for {width} features: the covariance is singular and the Frechet distance "
                f"far too high; use more than {width}"
            )
    if floor is not None and floor.count < samples.count:
        yield (
            f"the floor is of {floor.count} training images and the distance of {samples.count} samples: "
            "fewer images give a higher distance"
        )
