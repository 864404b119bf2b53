"""docs/results.md: a line for each figure of results.csv, nothing without error, number and protocol."""

import csv

import pytest

from dit.errors import DitError
from tests.command import ROOT, load_tool

COLUMNS = ["samples", "num", "protocol", "reference", "solver", "steps", "published", "verdict"]
COLUMNS += [f"{name}{part}" for name in ("fid", "precision", "accuracy") for part in ("", "_standard_error", "_floor")]


@pytest.fixture
def tool():
    return load_tool("render_results")


def write(path, *rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def test_every_figure_is_a_line_with_all_that_belongs_to_it(tool, tmp_path, capsys):
    adm = {"samples": "dit_xl_2.in256", "num": "50000", "protocol": "adm", "reference": "ref.npz", "solver": "ddpm"}
    adm |= {"steps": "250", "published": "fid 2.27", "verdict": "agrees"}
    adm |= {"fid": "2.2713", "fid_standard_error": "0.0137", "fid_floor": "1.1", "precision": "0.83"}
    beside = {"samples": "dit_ti_2.mnist", "num": "1000", "reference": "1000 held-out images"}
    write(tmp_path / "results.csv", adm, beside | {"accuracy": "0.978", "accuracy_standard_error": "0.00464"})
    assert tool.main([str(tmp_path / "results.csv"), "--out", str(tmp_path / "results.md")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'results.md'}\n"
    text = (tmp_path / "results.md").read_text()
    protocol, made = "protocol adm against ref.npz", "solver ddpm, steps 250"
    for line in (
        f"| `dit_xl_2.in256` | FID | 2.271 ± 0.014 | 1.1 | 50,000 | {protocol} | {made} | 2.27 | agrees |",
        f"| `dit_xl_2.in256` | precision | 0.83 ± unknown | - | 50,000 | {protocol} | {made} |  |  |",
        "| `dit_ti_2.mnist` | class accuracy | 0.9780 ± 0.0046 | - | 1,000 | 1000 held-out images |  |  |  |",
    ):
        assert line in text
    assert text.count("| `") == 3


def test_another_file_is_refused_and_nothing_written(tool, tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for name, words in (("missing.csv", "found no file"), ("other.csv", "found another table")):
        with pytest.raises(DitError, match=rf"{name}: expected .*{words}"):
            tool.main([str(tmp_path / name), "--out", str(tmp_path / "results.md")])
    assert not (tmp_path / "results.md").exists()


def test_the_committed_document_is_that_of_the_committed_rows(tool, tmp_path):
    docs = ROOT / "docs"
    assert tool.main([str(docs / "results.csv"), "--out", str(tmp_path / "results.md")]) == 0
    assert (tmp_path / "results.md").read_text() == (docs / "results.md").read_text(), "run tools/render_results.py"
