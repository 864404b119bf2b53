import json

import pytest

from dit.cli import main
from tests.command import RECIPE, TINY, runs


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Run folder of four steps with snapshots after every second."""
    output = tmp_path_factory.mktemp("tracked") / "run"
    options = ["--train.max_steps", "4", "--train.trackers", "[]", "--train.validate_every", "0"]
    options += ["--train.preview_every", "0", "--evaluation.num", "4", "--evaluation.batch_size", "4"]
    options += ["--ema.sigma_rels", "[0.05, 0.1]", "--ema.snapshot_every", "2"]
    assert main(["train", RECIPE, "--output", str(output), *TINY, *options]) == 0
    return output


def test_an_average_of_another_width_is_exported(tracked, tmp_path, capsys):
    out = tmp_path / "out"
    first, last = runs(capsys, "ema", tracked, "--sigma-rel", "0.1", "--out", out)
    assert first.startswith("sigma_rel 0.1 at step 4, from 4 averages; its profile is met within 0.00%")
    assert last == str(out)
    provenance = json.loads((out / "config.json").read_text())["provenance"]
    assert provenance["ema"]["sigma_rel"] == 0.1
    assert (out / "model.safetensors").read_bytes() != (tracked / "export" / "model.safetensors").read_bytes()


def test_an_average_that_ends_earlier_says_what_it_saw(tracked, tmp_path, capsys):
    out = tmp_path / "out"
    runs(capsys, "ema", tracked, "--sigma-rel", "0.1", "--step", "2", "--out", out)
    newest = json.loads((tracked / "export" / "config.json").read_text())["provenance"]
    provenance = json.loads((out / "config.json").read_text())["provenance"]
    assert (provenance["steps"], newest["steps"]) == (2, 4)
    assert provenance["images_seen"] == newest["images_seen"] // 2


def test_a_width_out_of_reach_is_said(tracked, tmp_path, capsys):
    assert main(["ema", str(tracked), "--sigma-rel", "0.001", "--out", str(tmp_path / "out")]) == 0
    assert "the snapshots do not reach this width well" in capsys.readouterr().err
