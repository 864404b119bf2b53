import json

import pytest

from dit.bench import run as bench
from dit.bench.harness import Row
from dit.cli import main

ROW = Row("denoise", "dit_s_2 batch 8", "diffusers bf16", 2.0, 1.9, 2.1, 61.0, 100.0, 200.0, "ms")


@pytest.fixture
def measured(monkeypatch):
    given = []

    def run(name, settings):
        given.append((name, settings.rounds, settings.quick))
        machine = {"gpu": None, "torch": "2.14.0+cpu", "bf16_matrix_unit": True}
        return {"machine": machine, "seconds": {}, "rows": [ROW.as_dict()]}

    monkeypatch.setattr(bench, "run", run)
    return given


def test_the_table_and_the_json_hold_the_rows(measured, tmp_path, capsys):
    assert main(["bench", "denoise", "--json", str(tmp_path / "out.json"), "--rounds", "3"]) == 0
    assert measured == [("denoise", 3, False)]
    line = capsys.readouterr().out.strip()
    assert line.split("  ")[0] == "denoise"
    assert "1.90-2.10" in line
    row = json.loads((tmp_path / "out.json").read_text())["rows"][0]
    fields = "benchmark case peer ratio low high percent_of_limit ours theirs unit"
    assert list(row) == fields.split()


def test_results_are_saved_only_when_asked(measured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "all"]) == 0
    assert not list(tmp_path.iterdir())
    assert main(["bench", "all", "--save"]) == 0
    assert (tmp_path / "tools" / "results" / "all_cpu_torch-2.14.0_bf16.json").is_file()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["denoize"], "found 'denoize'. Did you mean 'denoise'"),
        (["all", "--rounds", "0"], "--rounds: expected at least 1"),
    ],
)
def test_wrong_usage_is_refused(argv, message, capsys):
    assert main(["bench", *argv]) == 2
    assert message in capsys.readouterr().err
