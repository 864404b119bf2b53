"""Measured figures as readers see them: never alone, but with standard error, floor, number of samples and protocol.

`eval.json` is one of two reports: of a model's samples beside held-out images, or of samples by a published protocol.
Both become `Measured` here, for cards, the Hub's metadata, `dit report` and tables. Free of torch.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dit.files import read_json
from dit.validation import validate

FIGURES_NAME = "eval.json"
TITLES = {
    "accuracy": "class accuracy",
    "frechet_distance": "Frechet distance",
    "fid": "FID",
    "sfid": "sFID",
    "inception_score": "Inception score",
    "kid": "KID",
    "fd_dinov2": "FD-DINOv2",
    "authpct": "AuthPct",
    "cmmd": "CMMD",
}
"""Figure -> how readers know it, where that is not its name."""


@dataclass(frozen=True)
class Measured:
    """One figure, with what a reader needs beside it."""

    name: str
    """As in the report, such as fid."""
    title: str
    """As readers know it."""
    value: float
    """The number itself."""
    standard_error: float | None
    """Of the value; None where it is not known."""
    floor: float | None
    """What about perfect samples would have; None where that means nothing, or is not known."""
    num: int
    """Number of samples."""
    protocol: str
    """What it was measured by."""

    @property
    def text(self) -> str:
        """The value with its standard error, such as 4.92 ± 0.47."""
        return plus_minus(self.value, self.standard_error)

    @property
    def facts(self) -> dict[str, Any]:
        """What stands beside the value, as plain values: for metadata."""
        facts = {"standard_error": self.standard_error, "floor": self.floor}
        known = {key: round(number, 6) for key, number in facts.items() if number is not None}
        return known | {"num_samples": self.num, "protocol": self.protocol}

    @property
    def cells(self) -> dict[str, str]:
        """Column -> cell, of all tables that show figures."""
        return {
            "figure": self.title,
            "value": self.text,
            "floor": "-" if self.floor is None else f"{self.floor:.4g}",
            "samples": f"{self.num:,}",
            "measured by": self.protocol,
        }


class FigureFields(BaseModel):
    """A figure of a report by protocol."""

    value: float
    """The number itself."""
    standard_error: float | None = None
    """Of the value."""
    floor: float | None = None
    """What about perfect samples would have."""


class Figures(BaseModel):
    """What readers are shown of a report; an evaluation writes more. One of the likelihood alone has no figures."""

    num: int | None = None
    """Number of samples."""
    seed: int | None = None
    """Seed of the samples."""
    protocol: str | None = None
    """Published protocol; None: beside held-out images."""
    figures: dict[str, FigureFields] = {}
    """Figures by protocol."""
    features: str = ""
    """Feature extractor."""
    features_sha256: str | None = None
    """Hash of its weights."""
    frechet_distance: float | None = None
    """Samples against the reference."""
    frechet_standard_error: float | None = None
    """Of the distance."""
    frechet_floor: float | None = None
    """Training images against the reference."""
    precision: float | None = None
    """Share of samples that lie among the reference."""
    precision_standard_error: float | None = None
    """Of the precision."""
    recall: float | None = None
    """Share of the reference that lies among the samples."""
    recall_standard_error: float | None = None
    """Of the recall."""
    accuracy: float | None = None
    """Share of samples that the classifier takes for what was asked."""
    accuracy_standard_error: float | None = None
    """Of the accuracy."""
    num_calls: float | None = None
    """Beside held-out images: network calls for one sample; see `network_calls`."""
    reference: dict[str, Any] | None = {}
    """The images that the samples were compared with."""
    sampling: dict[str, Any] = {}
    """Sampling configuration, in the format of its time."""
    samples: dict[str, Any] = {}
    """By protocol: what is known of the samples; how they were made is `made` in it."""
    metrics: dict[str, dict[str, Any]] = {}
    """By protocol: settings of its figures."""
    networks: dict[str, dict[str, str]] = {}
    """By protocol: what described the images."""
    versions: dict[str, str] = {}
    """Versions of the packages."""

    @property
    def network_calls(self) -> float | None:
        """Network calls for one sample; None where they are not known, as of files."""
        return self.samples.get("num_calls") if self.protocol else self.num_calls

    @property
    def made(self) -> dict[str, Any]:
        """How the samples were made, as far as it is known: sampling, seed, order of labels, rounding, precision."""
        beside_held_out = {"sampling": self.sampling, "seed": self.seed, "order": "class i % K at position i"}
        return self.samples.get("made", {}) if self.protocol else beside_held_out

    @property
    def measured(self) -> list[Measured]:
        """All figures."""
        return list(self._by_protocol() if self.protocol else self._beside_held_out())

    def _by_protocol(self) -> Iterator[Measured]:
        against = f" against {self.reference['name']}" if self.reference else ""
        for name, found in self.figures.items():
            numbers = found.value, found.standard_error, found.floor
            by = f"protocol {self.protocol}{against}"
            if name == "accuracy":  # of whatever classifier was named beside the protocol
                by = f"{self.metrics.get(name, {}).get('features')} classifier"
            yield Measured(name, TITLES.get(name, name), *numbers, self.num or 0, by)

    def _beside_held_out(self) -> Iterator[Measured]:
        images = (self.reference or {}).get("num")
        against = f"{self.features} features, {f'{images:,} ' if images else ''}held-out images"
        is_fid = self.features.startswith("inception")
        distance = ("fid", "FID") if is_fid else ("frechet_distance", f"Frechet distance ({self.features})")
        if self.accuracy is not None:
            numbers = self.accuracy, self.accuracy_standard_error, None
            yield Measured("accuracy", TITLES["accuracy"], *numbers, self.num or 0, f"{self.features} classifier")
        if self.frechet_distance is not None:
            numbers = self.frechet_distance, self.frechet_standard_error, self.frechet_floor
            yield Measured(*distance, *numbers, self.num or 0, against)
        shares = {
            "precision": (self.precision, self.precision_standard_error),
            "recall": (self.recall, self.recall_standard_error),
        }
        for name, (value, error) in shares.items():
            if value is not None:
                yield Measured(name, TITLES.get(name, name), value, error, None, self.num or 0, against)


def read_figures(path: Path) -> Figures | None:
    """Read a report, or that of a folder; None where nothing was measured.

    Raises:
        DitError: the file is damaged; the field is named.
    """
    path = path / FIGURES_NAME if path.is_dir() else path
    return validate(Figures, read_json(path), origin=str(path)) if path.is_file() else None


def figure_cells(figures: Iterable[Measured]) -> dict[str, str]:
    """Return figures as columns of one row, each with error and floor; `conditions` says what else belongs to them."""
    cells = {}
    for figure in figures:
        cells[figure.title] = figure.text
        if figure.floor is not None:
            cells[f"its floor ({figure.title})"] = f"{figure.floor:.4g}"
    return cells


def conditions(figures: Iterable[Measured]) -> list[str]:
    """Return a sentence for each title, number and protocol among the figures of a table."""
    facts = {(figure.title, figure.num, figure.protocol): None for figure in figures}
    return [f"{title}, ± its standard error: of {num:,} samples, by {protocol}." for title, num, protocol in facts]


def plus_minus(value: float, standard_error: float | None) -> str:
    """Return a value with its standard error, which has two digits that count: 4.92 ± 0.47; unknown ones are told."""
    if standard_error is None:
        return f"{value:.4g} ± unknown"
    digits = 1 - math.floor(math.log10(standard_error)) if standard_error > 0 else 4
    return f"{value:,.{max(0, digits)}f} ± {standard_error:,.{max(0, digits)}f}"
