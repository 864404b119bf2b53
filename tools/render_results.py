"""Write docs/results.md from rows that `dit evaluate` and `dit reproduce` left in a results.csv.

    python tools/render_results.py [docs/results.csv] [--out docs/results.md]

Every figure is a line: value, standard error, floor, number of samples and protocol together, how the samples were
made, and what was published, where that is known.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dit.errors import DitError
from dit.figures import TITLES, Measured
from dit.files import write_text
from dit.markdown import markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
SETTINGS = (
    "solver",
    "steps",
    "guidance",
    "guidance_interval",
    "guidance_channels",
    "order",
    "rounding",
    "arithmetic",
    "seed",
)
ERROR, FLOOR = "_standard_error", "_floor"
DOCUMENT = """# Results

Made by `tools/render_results.py` from `{name}`, which holds more: hashes of samples, weights, reference and networks,
and versions. ± is the standard error over samples drawn anew, the reference being given; the floor of a distance is
what about perfect samples have. Figures compare where protocol, reference and number of samples are the same.

{table}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=DOCS / "results.csv", metavar="CSV")
    parser.add_argument("--out", type=Path, default=DOCS / "results.md", metavar="MD")
    given = parser.parse_args(argv)
    lines = [line for row in read(given.results) for line in lines_of(row)]
    write_text(given.out, DOCUMENT.format(name=given.results.name, table=markdown_table(lines, code=["of"])))
    print(given.out)
    return 0


def read(path: Path) -> list[Mapping[str, str]]:
    """Return the rows of a results.csv.

    Raises:
        DitError: there is none, or it is another table.
    """
    if not path.is_file():
        raise DitError(f"{path}: expected a results.csv of dit evaluate, found no file")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"samples", "num", "protocol"} <= rows[0].keys() or None in rows[-1].values():
        raise DitError(f"{path}: expected rows of dit evaluate with samples, num and protocol, found another table")
    return rows


def lines_of(row: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Yield a line of the document for each figure of a row."""
    against = f" against {row['reference']}" if row.get("reference") else ""
    protocol = f"protocol {row['protocol']}{against}" if row["protocol"] else row.get("reference", "")
    published = dict(part.split(" ", 1) for part in row.get("published", "").split(", ") if part)
    made = ", ".join(f"{key} {row[key]}" for key in SETTINGS if row.get(key))
    for name in (column.removesuffix(ERROR) for column in row if column.endswith(ERROR)):
        if row[name]:
            value, *others = (_number(row, name + part) for part in ("", ERROR, FLOOR))
            assert value is not None
            figure = Measured(name, TITLES.get(name, name), value, *others, int(row["num"]), protocol)
            cells = {"of": row["samples"], **figure.cells, "made with": made}
            verdict = row.get("verdict", "") if name in published else ""
            yield cells | {"published": published.get(name, ""), "verdict": verdict}


def _number(row: Mapping[str, str], column: str) -> float | None:
    return float(row[column]) if row.get(column) else None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DitError as error:
        print(f"render_results: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
