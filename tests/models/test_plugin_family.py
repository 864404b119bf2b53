"""A family of networks in a user's own file goes every way that those of the package go."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import dit
from dit import plugins
from dit.models.families import FAMILIES
from tests.command import fails, runs

MIXER = Path(__file__).with_name("mixer.py")
PLUGIN = ["--plugin", MIXER]


@pytest.fixture
def forgotten(monkeypatch):
    """A function that makes this process one in which no plugin was loaded, as every new one is."""

    def forget():
        plugins._loaded.clear()
        FAMILIES.pop("mixer", None)

    monkeypatch.setattr(plugins, "_loaded", [])
    yield forget
    forget()


def test_a_family_from_outside_trains_samples_exports_reloads_and_is_converted(tmp_path, capsys, forgotten):
    run, export = tmp_path / "run", tmp_path / "run" / "export"
    options = ["--model.width", "48", "--train.max_steps", "20", "--train.log_every", "1"]
    options += ["--train.preview_samples", "4"]
    options += ["--evaluation.features", "null", "--train.validation_samples", "16", "--train.batch_size", "16"]
    train = ["train", "dit_ti_2_mnist", *PLUGIN, "--model.name", "mixer_ti_1", "--output", run, *options]
    assert "--model.width INTEGER|null (now: 48)" in "\n".join(runs(capsys, *train, "--help"))
    runs(capsys, *train)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert rows[-1]["loss"] < rows[0]["loss"]

    runs(capsys, "sample", export, *PLUGIN, "--steps", "2", "--out", tmp_path / "a.png")
    assert "width 48" in "\n".join(runs(capsys, "info", export, *PLUGIN))
    config = json.loads((export / "config.json").read_text())
    assert (config["model"]["name"], config["model"]["arguments"]["width"]) == ("mixer_ti_1", 48)

    runs(capsys, "convert", export, tmp_path / "native", *PLUGIN, "--to", "native")
    runs(capsys, "convert", tmp_path / "native", tmp_path / "one.safetensors", *PLUGIN, "--to", "original")
    runs(capsys, "convert", tmp_path / "one.safetensors", tmp_path / "back", *PLUGIN)
    for folder in ("native", "back"):
        assert json.loads((tmp_path / folder / "config.json").read_text())["plugins"] == config["plugins"]
        runs(capsys, "sample", tmp_path / folder, *PLUGIN, "--steps", "2", "--out", tmp_path / "b.png")
        assert Image.open(tmp_path / "b.png").tobytes() == Image.open(tmp_path / "a.png").tobytes()

    forgotten()
    line = fails(capsys, "sample", export)
    assert "unknown name 'mixer_ti_1'" in line
    assert f"it was made with mixer.py (sha256 {config['plugins'][0]['sha256'][:12]}): add --plugin mixer.py" in line
    assert len(line.splitlines()) == 1


def test_a_family_from_outside_is_listed_and_created_by_name(capsys, forgotten):
    lines = runs(capsys, "models", "mixer_*", *PLUGIN)
    assert [line.split()[0] for line in lines] == ["mixer_ti_1", "mixer_s_1"]
    network = dit.create_model("mixer_ti_1", num_classes=3, input_size=8)
    assert lines[0].split()[1] == f"{sum(p.numel() for p in dit.create_model('mixer_ti_1').parameters()):,}"
    assert network(torch.zeros(2, 4, 8, 8), torch.zeros(2), torch.tensor([0, 3])).shape == (2, 4, 8, 8)
