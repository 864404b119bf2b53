"""Measure samples that lie in files by a protocol, beside a reference."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from dit.errors import ConfigError
from dit.evaluation.drawn import NUM_CALLS, Drawn
from dit.evaluation.feature_parts import (
    Networks,
    describe_batch,
    load_networks,
    network_facts,
    read_file_parts,
    write_file_parts,
)
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.image_files import ImageFiles
from dit.evaluation.metrics.accuracy import ClassAccuracy
from dit.evaluation.metrics.metric import Figure, Metric
from dit.evaluation.protocols import Protocol
from dit.evaluation.references.reference import Reference
from dit.evaluation.versions import package_versions
from dit.launcher import ALONE, Share

if TYPE_CHECKING:
    from rich.console import Console

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Measurement:
    """Figures, and everything that identifies them; the fields of the report, in its order."""

    protocol: str
    """Name of the protocol."""
    num: int
    """Number of samples."""
    figures: Mapping[str, Figure]
    """Name -> value, standard error, floor, spread and note."""
    samples: Mapping[str, Any]
    """Name, hash of the pixels, size, number of images per class (fewest, most), whether they are sorted by class; of
    files their sha256, of a model its network calls for one; and, where it is known, how they were made: `made`."""
    reference: Mapping[str, Any] | None
    """Name, sha256, and what the file says of itself; None where no metric needs one."""
    networks: Mapping[str, Mapping[str, str]]
    """Name -> preprocessing and sha256 of the weights."""
    metrics: Mapping[str, Mapping[str, Any]]
    """Name of the first figure of each metric -> its settings."""
    batch_size: int
    """Images that were described at a time."""
    device: str
    """Where they were."""
    versions: Mapping[str, str]
    """Versions of the packages that the figures depend on."""
    warnings: tuple[str, ...]
    """Why a figure should not be compared with others."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        figures = {
            name: {key: value for key, value in asdict(figure).items() if value is not None}
            for name, figure in self.figures.items()
        }
        fields = {key: value for key, value in vars(self).items() if key != "figures"}
        return {"format_version": FORMAT_VERSION, **fields, "warnings": list(self.warnings), "figures": figures}


Samples = ImageFiles | Drawn


def measure(
    samples: Samples,
    reference: Reference | None,
    protocol: Protocol,
    *,
    name: str,
    device: torch.device,
    batch_size: int,
    share: Share = ALONE,
) -> Measurement:
    """Measure samples beside a reference, once all processes have described their share of both.

    Args:
        samples: the images, or what draws them.
        reference: None where no metric of the protocol needs one.
        protocol: with the metrics that are wanted.
        name: what the report calls the samples.
        device: where to compute features.
        batch_size: images of files at a time; it changes speed and memory.
        share: which of how many processes this is.

    Raises:
        ConfigError: too few samples, or a reference that lacks what a metric needs or is not of the samples' kind.
        DitError: an image is broken, features are not finite, or weights can't be had.
    """
    warnings = _check_all(samples, reference, protocol)
    networks = load_networks(protocol.networks, device)
    options: dict[str, Any] = {"device": device, "batch_size": batch_size}
    _describe(samples, reference, protocol, networks, share=share, **options)
    known = FeatureSet()
    if reference is not None:
        known = FeatureSet(gaussians=reference.gaussians)
        if (images := _images_needed(reference, protocol)) is not None:
            known = read_file_parts(images, networks, gaussians=reference.gaussians, **options)
    found = samples.read() if isinstance(samples, Drawn) else read_file_parts(samples, networks, **options)
    by_metric = {metric.names: metric.measure(found, known) for metric in by_memory(protocol.metrics)}
    figures = {name: figure for metric in protocol.metrics for name, figure in by_metric[metric.names].items()}
    warnings += [f"{name}: {figure.note}" for name, figure in figures.items() if figure.note]
    return Measurement(
        protocol=protocol.name,
        num=samples.num,
        figures=figures,
        samples=_describe_samples(name, samples, found),
        reference=reference and {"name": reference.name, "sha256": reference.sha256, **reference.about},
        networks={
            name: {"preprocessing": network.preprocessing, "weights_sha256": loaded.weights_sha256}
            for name, (network, loaded) in networks.items()
        },
        metrics={metric.names[0]: _settings(metric) for metric in protocol.metrics},
        batch_size=samples.batch_size if isinstance(samples, Drawn) else batch_size,
        device=str(device),
        versions=package_versions(),
        warnings=tuple(warnings),
    )


def describe_share(
    samples: Samples,
    reference: Reference | None,
    protocol: Protocol,
    *,
    device: torch.device,
    batch_size: int,
    share: Share,
) -> None:
    """Describe this process's share of samples and reference for the one that measures; see `measure`."""
    _check_all(samples, reference, protocol)
    networks = load_networks(protocol.networks, device)
    _describe(samples, reference, protocol, networks, device=device, batch_size=batch_size, share=share)


def _check_all(samples: Samples, reference: Reference | None, protocol: Protocol) -> list[str]:
    """Refuse what can't be measured, before the work; return what makes figures hard to compare."""
    for metric in protocol.metrics:
        _check(metric, protocol, samples, reference)
    warnings = [] if reference is None else reference.check(protocol.networks, samples.size)
    if samples.num < protocol.num:
        warnings.append(f"figures of {samples.num} samples don't compare with those of {protocol.num}, as published")
    return warnings


def _describe(
    samples: Samples,
    reference: Reference | None,
    protocol: Protocol,
    networks: Networks,
    *,
    device: torch.device,
    batch_size: int,
    share: Share,
) -> None:
    options: dict[str, Any] = {"device": device, "batch_size": batch_size, "share": share}
    if reference is not None:
        weights = {name: loaded.weights_sha256 for net, loaded in networks.values() for name in net.widths}
        reference.check_weights(weights)
        if (images := _images_needed(reference, protocol)) is not None:
            write_file_parts(images, networks, title="reference", **options)
    if isinstance(samples, Drawn):
        samples.write(lambda images: describe_batch(images, networks, device), network_facts(networks), share=share)
    else:
        write_file_parts(samples, networks, title="samples", **options)


def _images_needed(reference: Reference, protocol: Protocol) -> ImageFiles | None:
    """Return the reference's images where a metric needs features of them."""
    return reference.images if any(_needs_images(metric, reference) for metric in protocol.metrics) else None


def _check(metric: Metric, protocol: Protocol, samples: Samples, reference: Reference | None) -> None:
    """Refuse what a metric can't be computed of, before the work."""
    names, needed = " and ".join(metric.names), metric.num_needed(protocol.width(metric.features))
    others = "or leave it out by --metrics"
    if samples.num < needed:
        raise ConfigError(f"{names}: expected at least {needed} samples, found {samples.num}; make more, {others}")
    if isinstance(metric, ClassAccuracy):
        metric.check(samples.labels)
    if metric.reference == "none":
        return
    if reference is None:
        raise ConfigError(f"{names}: expected a reference, found none; name one by --reference, {others}")
    if not _needs_images(metric, reference):
        return
    if reference.images is None:
        raise ConfigError(
            f"{names}: expected a reference with images in arr_0, found {reference.name} without; take one that dit "
            f"reference makes, {others}"
        )
    if reference.images.num < needed:
        raise ConfigError(f"{names}: expected at least {needed} reference images, found {reference.images.num}")


def _needs_images(metric: Metric, reference: Reference) -> bool:
    """Tell whether a metric needs features of the reference's images, not only what the file says of them."""
    known = metric.reference == "moments" and metric.features in reference.gaussians
    return metric.reference != "none" and not known


def by_memory(metrics: Iterable[Metric]) -> list[Metric]:
    """Return metrics with those first that hold all rows of both sides: behind others covariances stay in memory."""
    return sorted(metrics, key=lambda metric: metric.reference != "images")


def _settings(metric: Metric) -> dict[str, Any]:
    """Return the fields of a metric as plain values; of an object its class."""
    plain = (str, int, float, type(None))
    fields = {key: value for key, value in vars(metric).items() if not key.startswith("_")}
    return {key: value if isinstance(value, plain) else type(value).__name__ for key, value in fields.items()}


def _describe_samples(name: str, samples: Samples, found: FeatureSet) -> dict[str, Any]:
    labels = samples.labels
    described: dict[str, Any] = {"name": name, "pixels_sha256": found.pixels_sha256, "size": list(samples.size)}
    if isinstance(samples, ImageFiles):
        described["sha256"] = samples.sha256
    else:
        described["num_calls"] = found.rows(NUM_CALLS).mean().item()
    if labels is not None:
        _, counts = labels.unique(return_counts=True)
        described |= {"num_classes": len(counts), "num_per_class": [int(counts.min()), int(counts.max())]}
        described["is_sorted_by_class"] = bool((labels[:-1] <= labels[1:]).all())
    return described | ({"made": dict(samples.about)} if samples.about else {})


def print_measurement(found: Measurement, console: "Console | None" = None) -> None:
    """Print each figure with its standard error and floor, and below them the warnings."""
    from rich.console import Console
    from rich.table import Table

    against = f" against {found.reference['name']}" if found.reference else ""
    title = f"{found.num} samples by protocol {found.protocol}{against}"
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    for heading in ("value", "standard error", "floor"):
        table.add_column(heading, justify="right")
    for name, figure in found.figures.items():
        numbers = (figure.value, figure.standard_error, figure.floor)
        table.add_row(name, *("" if number is None else f"{number:.4f}" for number in numbers))
    console = console or Console()
    console.print(table)
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
