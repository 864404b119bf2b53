"""`results.csv`: a row per measurement, so that many can be laid beside each other."""

import csv
import io
from pathlib import Path

from dit.errors import DitError
from dit.evaluation.measure import Measurement
from dit.evaluation.protocols import PROTOCOLS
from dit.files import write_text

NAME = "results.csv"
FIGURES = tuple(
    dict.fromkeys(name for protocol in PROTOCOLS.values() for metric in protocol.metrics for name in metric.names)
)
COLUMNS = (
    *("samples", "samples_sha256", "num", "protocol", "reference", "reference_sha256", "networks_sha256", "versions"),
    *(f"{name}{part}" for name in FIGURES for part in ("", "_standard_error", "_floor")),
)


def append_result(path: Path, found: Measurement) -> None:
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
    writer.writerow(_row(found))
    write_text(path, text + out.getvalue())


def _row(found: Measurement) -> dict[str, object]:
    reference = found.reference or {}
    row: dict[str, object] = {
        "samples": found.samples["name"],
        "samples_sha256": found.samples["sha256"],
        "num": found.num,
        "protocol": found.protocol,
        "reference": reference.get("name"),
        "reference_sha256": reference.get("sha256"),
        "networks_sha256": " ".join(network["weights_sha256"] for network in found.networks.values()),
        "versions": " ".join(f"{name}={version}" for name, version in found.versions.items()),
    }
    for name, figure in found.figures.items():
        row |= {name: figure.value, f"{name}_standard_error": figure.standard_error, f"{name}_floor": figure.floor}
    return row
