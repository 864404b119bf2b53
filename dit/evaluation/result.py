"""What an evaluation found, with everything needed to repeat it: the dataclass, `eval.json` and the printed table."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ImageSet:
    """Which images something was measured on."""

    num: int
    """Number of images."""
    size: tuple[int, int]
    """Height and width in pixels."""
    sha256: str
    """Hash of the hashes of the images' pixels, in the order in which they were read."""
    fingerprint: str
    """Fingerprint of the image source that they were read from."""


@dataclass(frozen=True)
class Evaluation:
    """Quality figures of one set of samples, and how they came about; the fields of `eval.json`, in its order."""

    num: int
    """Number of samples."""
    seed: int
    """Seed of the samples; sample i is drawn at position i."""
    num_per_class: tuple[int, int]
    """Fewest and most samples of a class; class i % num_classes is asked for at position i."""
    num_classes: int
    """Classes of the model; 0: unconditional."""
    samples_sha256: str
    """Hash of the hashes of the samples' pixels, in the order of their positions."""
    features: str
    """Feature extractor."""
    num_features: int
    """Width of its features."""
    features_sha256: str
    """Hash of its weights."""
    frechet_distance: float
    """Samples against the reference, at least 0; lower is better."""
    frechet_standard_error: float | None
    """Standard error of the distance, over samples drawn anew; None where there are too few for the features."""
    frechet_floor: float | None
    """Training images against the reference, where there are any: what perfect samples would reach."""
    precision: float | None
    """Share of samples that lie among the reference by their third neighbours; None of too few or too many images."""
    precision_standard_error: float | None
    """Standard error of the precision."""
    recall: float | None
    """Share of the reference that lies among the samples, likewise."""
    recall_standard_error: float | None
    """Standard error of the recall."""
    accuracy: float | None
    """Share of samples that the classifier takes for what was asked, where it knows the model's classes."""
    accuracy_standard_error: float | None
    """Standard error of the accuracy."""
    accuracy_by_class: dict[str, float] | None
    """The accuracy of each class, by name."""
    accuracy_reference: float | None
    """The classifier's accuracy on the reference: the accuracy to hope for."""
    reference: ImageSet
    """The held-out images."""
    floor: ImageSet | None
    """The training images, as many as there are samples where possible, in the same class balance."""
    num_calls: float
    """Network calls for one sample; a guided call counts as the sampler counts it."""
    seconds_per_image: float | None
    """Wall time of sampling and decoding an image in this process, where it made any; it is not in `eval.json`."""
    batch_size: int
    """Samples per batch."""
    sampling: Mapping[str, Any]
    """Sampling configuration: solver, steps, guidance, guidance channels and so on."""
    subject: Mapping[str, Any]
    """What was evaluated: source, hash of its weights and so on."""
    versions: Mapping[str, str]
    """Versions of the packages that the figures depend on."""
    warnings: tuple[str, ...]
    """Why a figure should not be compared with others."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for `eval.json`."""
        fields = {key: value for key, value in asdict(self).items() if key != "seconds_per_image"}
        return json.loads(json.dumps({"format_version": FORMAT_VERSION, **fields}))


def print_evaluation(evaluation: Evaluation, console: "Console | None" = None) -> None:
    """Print the figures as a small table of name, value and what the value means, and below it the warnings."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, title=f"{evaluation.num} samples", title_justify="left")
    for row in _rows(evaluation):
        table.add_row(*row)
    console = console or Console()
    console.print(table)
    for warning in evaluation.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)


def _rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    rows = []
    if evaluation.accuracy is not None:
        note = f"± {100 * (evaluation.accuracy_standard_error or 0):.1f}"
        if evaluation.accuracy_reference is not None:
            note += f", {100 * evaluation.accuracy_reference:.1f}% on held-out images"
        rows.append(("class accuracy", f"{100 * evaluation.accuracy:.1f}%", note))
    against = f"against {evaluation.reference.num} held-out images, {evaluation.features} features"
    if evaluation.frechet_standard_error is not None:
        against = f"± {evaluation.frechet_standard_error:.3f}, {against}"
    rows.append(("Frechet distance", f"{evaluation.frechet_distance:.3f}", against))
    if evaluation.frechet_floor is not None and evaluation.floor is not None:
        note = f"{evaluation.floor.num} training images against the same"
        rows.append(("its floor", f"{evaluation.frechet_floor:.3f}", note))
    for name in ("precision", "recall"):
        if (value := getattr(evaluation, name)) is not None:
            error = getattr(evaluation, f"{name}_standard_error")
            rows.append((name, f"{value:.3f}", f"± {error:.3f}, by third neighbours in the same features"))
    if evaluation.seconds_per_image is not None:
        rows.append(("time per image", f"{evaluation.seconds_per_image:.3f} s", f"batches of {evaluation.batch_size}"))
    rows.append(("network calls", f"{evaluation.num_calls:g}", "per image"))
    return rows
