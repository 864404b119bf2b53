"""The rows of metrics.jsonl: written, read, cut when a run is resumed."""

import pytest

from dit.errors import DitError
from dit.run_files import append_row, cut_rows, read_rows


def test_rows_round_trip_and_a_torn_last_line_is_no_row(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_rows(path) == []
    for step in (1, 2, 3):
        append_row(path, {"step": step, "loss": 0.1 * step})
    before = path.read_bytes()
    with open(path, "a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    cut_rows(path, 3)
    assert path.read_bytes() == before
    cut_rows(path, 1)
    assert [row["step"] for row in read_rows(path)] == [1]


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"loss": 1}', "3"])
def test_other_damage_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(DitError, match=r"metrics\.jsonl:2"):
        read_rows(path)


def test_nan_is_no_row(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        append_row(tmp_path / "metrics.jsonl", {"step": 1, "loss": float("nan")})
