import json

import pytest

from dit.bench import run as bench
from dit.bench.harness import Row
from dit.cli import main

ROW = Row("denoise", "dit_s_2 batch 8", "diffusers bf16", 2.0, 1.9, 2.1, 100.0, 200.0, 7)


def test_rows_are_printed_and_written_as_they_come(monkeypatch, tmp_path, capsys):
    out = tmp_path / "out.json"

    def run(name, settings):
        assert (name, settings.rounds, settings.budget, str(settings.device)) == ("denoise", 3, 5.0, "cpu")
        yield ROW
        assert "1.90-2.10" in capsys.readouterr().out
        assert json.loads(out.read_text())["rows"] == [vars(ROW)]
        yield ROW

    monkeypatch.setattr(bench, "run", run)
    options = ["--json", str(out), "--rounds", "3", "--budget", "5", "--device", "cpu"]
    assert main(["bench", "denoise", *options]) == 0
    written = json.loads(out.read_text())
    assert len(written["rows"]) == 2
    assert written["machine"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["denoize"], "found 'denoize'. Did you mean 'denoise'"),
        (["all", "--rounds", "0"], "--rounds: expected at least 1"),
        (["denoise", "--model", "dit_xl_3"], "dit_xl_3"),
        (["sample", "--model", "lightningdit_ti_2"], "which DiTPipeline samples from too, found lightningdit_ti_2"),
    ],
)
def test_wrong_usage_is_refused(argv, message, capsys):
    assert main(["bench", *argv]) == 2
    assert message in capsys.readouterr().err
