"""`results.csv`: a row per measurement, so that many can be laid beside each other."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dit.errors import DitError
from dit.evaluation.measure import Measurement
from dit.evaluation.protocols import PROTOCOLS
from dit.evaluation.result import Evaluation
from dit.files import write_text

NAME = "results.csv"
FIGURES = (
    *dict.fromkeys(name for protocol in PROTOCOLS.values() for metric in protocol.metrics for name in metric.names),
    *("frechet_distance", "accuracy"),
)
COLUMNS = (
    *("samples", "samples_sha256", "num", "protocol", "reference", "reference_sha256", "networks_sha256"),
    *("num_per_class", "is_sorted_by_class", "order", "weights_sha256", "solver", "steps", "guidance"),
    *("guidance_interval", "guidance_channels", "rounding", "arithmetic", "seed", "made", "batch_size", "device"),
    *("versions", "published", "verdict"),
    *(f"{name}{part}" for name in FIGURES for part in ("", "_standard_error", "_floor")),
)
Row = Mapping[str, Any]
"""Column -> cell; columns that are left out are empty."""


def append_result(path: Path, row: Row) -> None:
    """Append a row, and write the header where the file is new; a fault leaves the older file whole.

    Raises:
        DitError: the file has other columns.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    header = next(csv.reader([text.split("\n", 1)[0]]), [])
    if header and header != list(COLUMNS):
        raise DitError(f"{path}: expected the columns of this version, found others; move the file away")
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    if not header:
        writer.writeheader()
    writer.writerow(row)
    write_text(path, text + out.getvalue())


def row_of_measurement(found: Measurement) -> Row:
    """Return the row of samples that were measured by a protocol."""
    reference, made = found.reference or {}, found.samples.get("made", {})
    row = _row(found.samples["name"], made, found.samples.get("num_per_class"), found.versions) | {
        "samples_sha256": found.samples["pixels_sha256"],
        "num": found.num,
        "protocol": found.protocol,
        "reference": reference.get("name"),
        "reference_sha256": reference.get("sha256"),
        "networks_sha256": " ".join(network["weights_sha256"] for network in found.networks.values()),
        "is_sorted_by_class": found.samples.get("is_sorted_by_class"),
        "batch_size": found.batch_size,
        "device": found.device,
    }
    for name, figure in found.figures.items():
        row |= {name: figure.value, f"{name}_standard_error": figure.standard_error, f"{name}_floor": figure.floor}
    return row


def row_of_evaluation(found: Evaluation) -> Row:
    """Return the row of samples that were measured beside held-out images."""
    subject = dict(found.subject)
    made = subject | {"sampling": found.sampling, "seed": found.seed, "order": "balanced"}
    return _row(subject.get("source"), made, found.num_per_class, found.versions) | {
        "samples_sha256": found.samples_sha256,
        "num": found.num,
        "reference": f"{found.reference.num} held-out images",
        "reference_sha256": found.reference.sha256,
        "networks_sha256": found.features_sha256,
        "batch_size": found.batch_size,
        "device": subject.get("device"),
        "frechet_distance": found.frechet_distance,
        "frechet_distance_standard_error": found.frechet_standard_error,
        "frechet_distance_floor": found.frechet_floor,
        "precision": found.precision,
        "precision_standard_error": found.precision_standard_error,
        "recall": found.recall,
        "recall_standard_error": found.recall_standard_error,
        "accuracy": found.accuracy,
        "accuracy_standard_error": found.accuracy_standard_error,
    }


def _row(name: str | None, made: Mapping[str, Any], per_class: Any, versions: Mapping[str, str]) -> dict[str, Any]:
    """Return what tells how samples were made, where it is known."""
    sampling = made.get("sampling", {})
    return {
        "samples": name,
        "num_per_class": " to ".join(map(str, per_class or ())),
        "order": made.get("order"),
        "weights_sha256": " ".join(made.get("weights_sha256", {}).values()),
        "solver": sampling.get("solver", {}).get("name"),
        **{key: sampling.get(key) for key in ("steps", "guidance", "guidance_interval", "guidance_channels")},
        **{key: made.get(key) for key in ("rounding", "seed")},
        "arithmetic": made.get("precision"),
        "made": json.dumps(made) if made else None,
        "versions": " ".join(f"{name}={version}" for name, version in versions.items()),
    }
