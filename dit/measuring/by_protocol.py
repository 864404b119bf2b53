"""Samples measured as published figures are: those of a model, made meanwhile and not kept, or images in files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit import launcher
from dit.making import Making, label_order, many_images
from dit.measuring.processes import in_processes, parts_of
from dit.measuring.report import write_report

if TYPE_CHECKING:
    import torch

    from dit.evaluation.drawn import Drawn
    from dit.evaluation.measure import Measurement, Samples
    from dit.evaluation.protocols import Protocol

ACCURACY = "accuracy"


def is_images(source: str) -> bool:
    """Tell whether a source is images in files, and no model."""
    from dit.run_files import is_run
    from dit.zoo.entries import entries
    from dit.zoo.folder.config import is_exported

    path = Path(source)
    is_file = path.suffix.lower() in (".npz", ".tar")
    return source not in entries() and (is_file or (path.is_dir() and not is_exported(path) and not is_run(path)))


@dataclass(frozen=True)
class FileSamples:
    """Images in files."""

    path: Path
    """An .npz, a folder or a tar."""
    allow_jpeg: bool
    """Whether JPEGs are taken."""
    batch_size: int
    """Images that are described at a time."""

    @property
    def name(self) -> str:
        """What reports call them."""
        return self.path.name

    @property
    def class_names(self) -> None:
        """Names of the classes that labels number: files tell none."""
        return

    def open(self, protocol: "Protocol", device: "torch.device", parts: Path) -> "Samples":
        """Return the images."""
        from dit.evaluation.image_files import open_image_files

        return open_image_files(self.path, allow_jpeg=self.allow_jpeg)


@dataclass(frozen=True)
class ModelSamples:
    """What a model makes."""

    source: str
    """Where the model is."""
    making: Making
    """How they are made."""
    num: int | None
    """How many; None: as the protocol has it."""
    seed: int
    """Seed of their noise and, where they are drawn, of their labels."""
    batch_size: int
    """Images that are made and described at a time."""
    balanced: bool = False
    """Whether all classes come in turn."""
    drawn: bool = False
    """Whether classes are drawn at random, whatever the published setting says."""

    @property
    def name(self) -> str:
        """What reports call them; a published report says nothing of the folders of the machine it was made on."""
        return Path(self.source).name if Path(self.source).exists() else self.source

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that labels number."""
        return self.making.locate(self.source).config.class_names

    def open(self, protocol: "Protocol", device: "torch.device", parts: Path) -> "Drawn":
        """Return what makes them.

        Args:
            protocol: how they are measured.
            device: where they are made.
            parts: folder of their features meanwhile.
        """
        from dit.evaluation.drawn import Drawn

        pipeline = self.making.load(self.source, device)
        published = pipeline.config.published if self.making.published else None
        order = label_order(published, balanced=self.balanced, drawn=self.drawn)
        num = protocol.num if self.num is None else self.num
        options = {"order": order, "seed": self.seed, "batch_size": self.batch_size}
        wanted = many_images(pipeline, self.making.settings, num=num, **options)
        sampler = pipeline.sampler(seed=self.seed, **self.making.settings)
        about = wanted.about() | {"device": device.type}
        return Drawn(wanted.labels, pipeline.image_size, sampler, about, wanted.batch_size, parts)


def measure_by_protocol(
    samples: FileSamples | ModelSamples,
    protocol: str,
    reference: Path | None,
    metrics: list[str] | None,
    *,
    features: str | None = None,
    processes: int,
    device: str | None,
    out: Path,
    columns: "Callable[[Measurement], Mapping[str, str]] | None" = None,
) -> "Measurement | None":
    """Measure samples as published figures are, write the report and a row of results.csv, and print the figures.

    Args:
        samples: the images, or what makes them.
        protocol: name of the protocol.
        reference: what they are measured against; None where no figure needs one.
        metrics: names of the figures; None: all.
        features: classifier whose class accuracy is one of the figures, as in `load_features`; None: it is not.
        processes: number of processes on this machine.
        device: where to compute.
        out: the report.
        columns: what else the row says of the figures.

    Returns:
        The figures; None in a launcher's processes but the first.
    """
    from dit.errors import ConfigError
    from dit.files import check_writable

    if samples.batch_size < 1:
        raise ConfigError(f"--batch_size: expected at least 1, found {samples.batch_size}")
    if metrics is not None and (ACCURACY in metrics) != (features is not None):
        given = features or "none"
        raise ConfigError(f"--features: expected a classifier where --metrics has {ACCURACY}, else none, found {given}")
    check_writable(out, "--out")
    class_names = samples.class_names  # answers a wrong source before torch is imported
    found: list[Measurement] = []

    def work(share: launcher.Share, finishes: bool) -> None:
        from dit.device import choose_device
        from dit.evaluation.features import load_features
        from dit.evaluation.measure import describe_share, measure, print_measurement
        from dit.evaluation.protocols import PROTOCOLS
        from dit.evaluation.references.reference import open_reference
        from dit.evaluation.results_table import NAME, append_result, row_of_measurement

        wanted, place = PROTOCOLS[protocol], choose_device(device)
        if features is not None:
            wanted = wanted.with_accuracy(load_features(features, device=place), class_names)
        wanted = wanted.choose(metrics)
        opened = samples.open(wanted, place, parts_of(out))
        against = None if reference is None else open_reference(reference)
        options: dict[str, Any] = {"device": place, "batch_size": samples.batch_size, "share": share}
        if not finishes:
            describe_share(opened, against, wanted, **options)
            return
        found.append(measure(opened, against, wanted, name=samples.name, **options))
        print_measurement(found[0])
        append_result(out.parent / NAME, {**row_of_measurement(found[0]), **(columns(found[0]) if columns else {})})
        write_report(out, found[0].to_dict())

    in_processes(processes, out, work)
    return found[0] if found else None
