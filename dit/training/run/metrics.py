"""The file metrics.jsonl: one JSON object per line and logged step. Free of torch."""

import json
from pathlib import Path
from typing import Any

from dit.errors import DitError
from dit.files import write_text


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one line to metrics.jsonl."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; a last line that a killed process left half written is not a row.

    Raises:
        DitError: another line is not a row.
    """
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append({"step": int(row["step"])} | row)
        except (ValueError, TypeError, KeyError):
            raise DitError(f"{path}:{number}: expected a JSON object with a step, found {line[:60]!r}") from None
    return rows


def cut_rows(path: Path, step: int) -> None:
    """Remove the rows after `step`, which a resumed run will write again."""
    kept = [row for row in read_rows(path) if row["step"] <= step]
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept))
