"""Published figures measured again, and how near the measured ones come.

A figure agrees with the published one where they differ by at most two standard errors and 2% of the published one. Of
fewer images than it was published of nothing can be told, for a Frechet distance of fewer is higher.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dit import launcher
from dit.errors import ConfigError, did_you_mean
from dit.figures import FIGURES_NAME, Figures, Measured, plus_minus, read_figures
from dit.files import ASSETS, cache_folder, read_json
from dit.making import Making
from dit.measuring.beside_held_out import measure_beside_held_out
from dit.measuring.by_protocol import ModelSamples, measure_by_protocol
from dit.validation import validate
from dit.zoo.entries import Entry, Report, entries
from dit.zoo.hub.download import download_address

METRICS = {"FID-50K": ("fid", 50_000)}
"""Metric of a report -> name of the figure, and the number of images."""
ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet"
REFERENCES = {
    ("imagenet-1k", 256, "adm"): f"{ADM}/256/VIRTUAL_imagenet256_labeled.npz",
    ("imagenet-1k", 512, "adm"): f"{ADM}/512/VIRTUAL_imagenet512.npz",
}
"""Data, image size and protocol -> where the reference of published figures is."""
TOLERANCE = 0.02
"""Share of a published figure that a measured one may differ by, besides two standard errors."""


@dataclass(frozen=True)
class Claim:
    """A published figure."""

    figure: str
    """Its name in reports, such as fid."""
    title: str
    """What its authors call it."""
    value: float
    """The number."""
    num: int
    """How many images it is of."""
    by: str
    """Who claims it."""
    setting: str
    """How the images were made."""


@dataclass(frozen=True)
class Comparison:
    """A published figure beside the measured one."""

    claim: Claim
    """What was published."""
    measured: Measured
    """What was found here."""

    @property
    def allowed(self) -> float:
        """How far the two may differ."""
        return 2 * (self.measured.standard_error or 0.0) + TOLERANCE * abs(self.claim.value)

    @property
    def verdict(self) -> str:
        """Whether they agree, or why that can't be told."""
        if self.measured.num < self.claim.num:
            return f"none: of {self.measured.num:,} images, not {self.claim.num:,}"
        return "agrees" if abs(self.measured.value - self.claim.value) <= self.allowed else "differs"

    @property
    def cells(self) -> dict[str, str]:
        """Column -> cell."""
        return {
            "figure": self.claim.title,
            "published": f"{self.claim.value:.4g}",
            "measured": self.measured.text,
            "may differ by": f"{self.allowed:.2g}",
            "verdict": self.verdict,
        }


def find_entry(name: str) -> Entry:
    """Return an entry of the zoo.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in entries():
        raise ConfigError(
            f"{name}: expected a zoo name with a published figure, see dit reproduce --list, found none."
            f"{did_you_mean(name, entries())}"
        )
    return entries()[name]


def claims_of(name: str) -> list[Claim]:
    """Return the figures that are to be reproduced: the best reported one, or an embedded model's own card's."""
    entry = entries()[name]
    if is_embedded(entry):
        figures = read_figures(ASSETS / name)
        return [_of_card(found) for found in (figures.measured if figures else [])]
    return [_of_report(entry, report) for report in entry.reported[:1] if entry.published is not None]


def is_embedded(entry: Entry) -> bool:
    """Tell whether the weights are part of this package."""
    return any(source.embedded for source in entry.sources)


def _of_card(found: Measured) -> Claim:
    return Claim(found.name, found.title, found.value, found.num, "this project", found.protocol)


def _of_report(entry: Entry, report: Report) -> Claim:
    figure, num = METRICS[report.metric]
    return Claim(figure, report.metric, report.value, num, entry.paper or "unknown", report.setting)


def reproduce(
    name: str,
    *,
    num: int | None = None,
    reference: Path | None = None,
    batch_size: int | None = None,
    processes: int = 1,
    device: str | None = None,
    out: Path,
) -> list[Comparison]:
    """Measure what is claimed of an entry by its published protocol; write the report and a row of results.csv.

    Args:
        name: of the entry.
        num: number of images; by default as many as the figure was published of.
        reference: file to measure against, where it is not downloaded or another one is wanted.
        batch_size: images at a time.
        processes: number of processes on this machine.
        device: where to compute.
        out: the report.

    Returns:
        The published figures beside the measured ones; in a launcher's processes but the first, nothing.

    Raises:
        ConfigError: nothing is claimed that can be measured here, or a reference is missing.
        DitError: a download or a measurement failed.
    """
    entry, claims = find_entry(name), claims_of(name)
    if not claims:
        raise ConfigError(
            f"{name}: expected a published figure whose setting is known, found none; dit reproduce --list"
        )
    num = claims[0].num if num is None else num
    options: dict[str, Any] = {"processes": processes, "device": device, "out": out}
    if is_embedded(entry):
        return _reproduce_card(name, claims, num, reference, batch_size, options)
    making, protocol = Making(published=True), entry.reported[0].protocol
    making.locate(name)  # weights that only a person can fetch are told before a reference is downloaded
    found = measure_by_protocol(
        ModelSamples(name, making, num, seed=0, batch_size=32 if batch_size is None else batch_size),
        protocol,
        published_reference(entry, protocol) if reference is None else reference,
        [claim.figure for claim in claims],
        columns=lambda found: columns_of(compare(claims, found.to_dict())),
        **options,
    )
    return [] if found is None else compare(claims, found.to_dict())


def _reproduce_card(
    name: str,
    claims: Sequence[Claim],
    num: int,
    reference: Path | None,
    batch_size: int | None,
    options: Mapping[str, Any],
) -> list[Comparison]:
    if reference is not None:
        raise ConfigError("--reference: expected it left out: embedded models are measured beside their card's images")
    card = read_json(ASSETS / name / FIGURES_NAME)
    size = card["batch_size"] if batch_size is None else batch_size
    of_recipe = {"evaluation.num": num, "evaluation.seed": card["seed"], "evaluation.batch_size": size}
    found = measure_beside_held_out(name, of_recipe, Making(), **options)
    if found is None:
        return []
    from dit.evaluation.results_table import NAME, append_result, row_of_evaluation

    compared = compare(claims, found.to_dict())
    append_result(options["out"].parent / NAME, {**row_of_evaluation(found), **columns_of(compared)})
    return compared


def compare(claims: Iterable[Claim], report: Mapping[str, Any]) -> list[Comparison]:
    """Lay published figures beside those of a report."""
    measured = {found.name: found for found in validate(Figures, report, origin="report").measured}
    return [Comparison(claim, measured[claim.figure]) for claim in claims if claim.figure in measured]


def columns_of(compared: Sequence[Comparison]) -> dict[str, str]:
    """Return what a row of results.csv says of the comparison."""
    return {
        "published": ", ".join(f"{pair.claim.figure} {pair.claim.value:.4g}" for pair in compared),
        "verdict": ", ".join(dict.fromkeys(pair.verdict for pair in compared)),
    }


def published_reference(entry: Entry, protocol: str) -> Path:
    """Return the reference of an entry's published figures, downloaded once, by a launcher's first process.

    Raises:
        ConfigError: its address is not known.
        DitError: it can't be downloaded.
    """
    address = REFERENCES.get((entry.data, entry.image_size, protocol))
    if address is None:
        raise ConfigError(
            f"--reference: expected the file that figures by protocol {protocol} of {entry.data} at {entry.image_size} "
            "pixels are measured against, found none; its authors publish it, and dit reference makes one of images"
        )
    folder = cache_folder("references")
    if not launcher.is_main():
        launcher.wait_for_files([folder / address.rpartition("/")[2]])
    return download_address(address, folder)


def rows(names: Iterable[str], results: Path) -> Iterator[dict[str, str]]:
    """Yield a row for each figure that is claimed: of what, by whom, and what a results.csv says was measured of it."""
    found: dict[str, Mapping[str, str]] = {}
    if results.is_file():
        with open(results, newline="", encoding="utf-8") as file:
            found = {row.get("samples", ""): row for row in csv.DictReader(file) if row.get("verdict")}
    for name in names:
        for claim in claims_of(name):
            row = found.get(name, {})
            yield {
                "name": name,
                "figure": claim.title,
                "published": f"{claim.value:.4g}",
                "of images": f"{claim.num:,}",
                "by": claim.by,
                "measured here": _measured(row, claim.figure),
                "verdict": row.get("verdict", "") or "-",
            }


def _measured(row: Mapping[str, str], figure: str) -> str:
    if not row.get(figure):
        return "-"
    error = row.get(f"{figure}_standard_error")
    return f"{plus_minus(float(row[figure]), float(error) if error else None)} of {int(row['num']):,}"
