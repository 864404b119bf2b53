"""Draw class-balanced samples and measure them against held-out images.

The evaluation is handed a sampler and knows nothing of models. At position i it asks for class i % K; the noise of a
sample depends on the seed and its position alone, so the samples are the same whatever the batch size. The floor, the
distance of training images from the held-out ones, uses as many images as there are samples in the same class balance:
the Frechet distance is biased upwards by a finite number of samples, and so the bias is the same on both sides.

Shapes: B images of a batch, C channels, K classes of the model.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dit.data.images import ImageSource
from dit.display import Progress
from dit.errors import ConfigError, DitError
from dit.evaluation.config import EvaluationConfig
from dit.evaluation.described import DescribedImages
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.result import Evaluation, ImageSet
from dit.evaluation.versions import package_versions
from dit.rng import Purpose, permutation


class Sampler(Protocol):
    """Draws images and counts its network calls."""

    num_calls: int
    """Calls per image, summed over the batches so far."""

    def __call__(self, labels: Tensor, positions: list[int], /) -> Tensor:
        """Return an image for each class (B,) int64 at its global position: uint8 (B, C, H, W)."""
        ...


@dataclass(frozen=True)
class EvaluatedBatch:
    """One batch of samples with the classifier's verdict, for whoever wants to keep or show them."""

    images: Tensor
    """(B, C, H, W) uint8 on the CPU."""
    labels: Tensor
    """(B,) int64, the model's classes that were asked for."""
    positions: list[int]
    """B global sample positions."""
    is_right: Tensor | None
    """(B,) bool, whether the classifier agrees; None where it does not know the model's classes."""


def evaluate(
    sampler: Sampler,
    config: EvaluationConfig,
    *,
    extractor: FeatureExtractor,
    class_names: Sequence[str],
    reference: ImageSource,
    training: ImageSource | None = None,
    sampling: Mapping[str, Any] | None = None,
    subject: Mapping[str, Any] | None = None,
    callback: Callable[[EvaluatedBatch], None] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure class accuracy and the Frechet distance of samples.

    Args:
        sampler: draws samples for labels and positions with `config.seed`.
        config: how many samples, in which batches, from which seed.
        extractor: from `load_features`.
        class_names: the model's K class names; empty for an unconditional model, whose one label is 0, the null class.
        reference: held-out images, of the samples' resolution.
        training: training images, for the floor; None: no floor.
        sampling: sampling configuration, as plain values, to be recorded.
        subject: what is evaluated (source, hash of the weights, ...), as plain values, to be recorded.
        callback: sees every batch of samples.
        progress: show progress on stderr.

    Returns:
        The figures with what is needed to repeat them.

    Raises:
        ConfigError: the reference has fewer than two images.
        DitError: samples of another size than the reference, or features that are not finite.
    """
    if len(reference) < 2:
        raise ConfigError(f"data: expected at least 2 held-out images to evaluate against, found {len(reference)}")
    labels = balanced_labels(config.num, len(class_names))
    held_out = DescribedImages(extractor, reference.class_names)
    _describe_images(held_out, reference, np.arange(len(reference)), config, title="held-out images", progress=progress)
    samples = DescribedImages(extractor, class_names, size=held_out.size)
    before = sampler.num_calls
    seconds = _describe_samples(samples, sampler, labels, config, callback=callback, progress=progress)
    floor = floor_set = None
    if training is not None and len(training) >= 2:
        floor = DescribedImages(extractor, training.class_names, size=held_out.size)
        indices = matched_indices(training, labels, class_names)
        _describe_images(floor, training, indices, config, title="training images", progress=progress)
        floor_set = _image_set(floor, training)
    frechet = samples.frechet(held_out)
    counts, accuracy = torch.bincount(labels, minlength=max(1, len(class_names))), samples.accuracy
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
        accuracy=accuracy and accuracy.overall,
        accuracy_standard_error=accuracy and accuracy.standard_error,
        accuracy_by_class=accuracy and accuracy.by_class,
        accuracy_reference=held_out.accuracy and held_out.accuracy.overall,
        reference=_image_set(held_out, reference),
        floor=floor_set,
        num_calls=(sampler.num_calls - before) / math.ceil(config.num / config.batch_size),
        seconds_per_image=seconds / config.num,
        batch_size=config.batch_size,
        sampling=dict(sampling or {}),
        subject=dict(subject or {}),
        versions=package_versions(),
        warnings=tuple(_warnings(samples, held_out, floor)),
    )


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


def _describe_samples(
    described: DescribedImages,
    sampler: Sampler,
    labels: Tensor,
    config: EvaluationConfig,
    *,
    callback: Callable[[EvaluatedBatch], None] | None,
    progress: bool,
) -> float:
    """Draw and describe all samples; return the seconds that drawing took."""
    seconds = 0.0
    for batch in _batches(np.arange(len(labels)), config.batch_size, title="samples", progress=progress):
        asked, positions = labels[batch], batch.tolist()
        start = time.perf_counter()
        images = sampler(asked, positions).cpu()  # (B, C, H, W); the copy waits for the device
        seconds += time.perf_counter() - start
        if len(images) != len(asked):
            raise DitError(f"sampler: expected {len(asked)} images, found {len(images)}")
        is_right = described.update(images, asked)
        if callback is not None:
            callback(EvaluatedBatch(images=images, labels=asked, positions=positions, is_right=is_right))
    return seconds


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
