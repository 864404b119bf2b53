"""The comparison of recipes, with finished runs in place of training."""

import importlib.util
import json
import re
import shutil

import pytest
from PIL import Image

import dit
from dit.files import ASSETS
from tests.command import ROOT


@pytest.fixture
def tool(monkeypatch):
    """The script, whose training hands out the two shipped models after 100 and 150 seconds; a third recipe fails."""
    spec = importlib.util.spec_from_file_location("compare_recipes", ROOT / "tools" / "compare_recipes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.trained = []

    def train(recipe, folder, overrides):
        module.trained.append((recipe, *overrides))
        if recipe not in MODELS:
            return 2
        source, seconds = MODELS[recipe]
        shutil.copytree(ASSETS / source, folder / "export")
        shutil.copy(ASSETS / source / "metrics.jsonl", folder)
        (folder / "status.json").write_text(json.dumps({"step": 7, "seconds": {"train": seconds}}))
        return 0

    monkeypatch.setattr(module, "train", train)

    def load_pipeline(export):  # the autoencoder alone would take 6 seconds to import
        return lambda num: [Image.new("L", (32, 32), MODELS[export.parent.name][1])] * num

    monkeypatch.setitem(vars(dit), "load_pipeline", load_pipeline)  # setattr would import the real one first
    return module


MODELS = {"dit_ti_2_mnist": ("dit_ti_2.mnist", 100), "dit_ti_2_mnist_gaussian": ("dit_ti_2.mnist_gaussian", 150)}


def test_finished_runs_are_compared_and_not_trained_again(tool, tmp_path, capsys):
    argv = ["dit_ti_2_mnist_gaussian", "missing", "dit_ti_2_mnist", "--output", str(tmp_path)]
    assert tool.main([*argv, "--train.max_steps", "7"]) == 2
    names = ["dit_ti_2_mnist", "dit_ti_2_mnist_gaussian", "missing"]  # the baseline first
    assert tool.trained == [(name, "--train.max_steps", "7") for name in names]
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [(row["recipe"], row["steps"], row["ratio"]) for row in rows] == [(names[0], 7, 1), (names[1], 7, 1.5)]
    for row in rows:
        figures = json.loads((tmp_path / row["recipe"] / "export" / "eval.json").read_text())
        assert [figure["value"] for figure in row["figures"]] == [figures["accuracy"], figures["frechet_distance"]]
    assert rows[0]["parameters"] == 4_170_640
    table = (tmp_path / "table.md").read_text()
    figures = r"0\.9780 ± 0\.0046 \| 4\.92 ± 0\.47 \| 0\.6615 \|"
    assert re.search(rf"\| dit_ti_2_mnist \| 4,170,640 \| 7 \| 100 \| 1\.00 \| [\d.]+ \| {figures}", table)
    assert (
        "Frechet distance (mnist), ± its standard error: of 1,000 samples, by mnist features, 1,000 held-out" in table
    )
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.height == 2 * 64 + 2
        assert [picture.getpixel((picture.width - 1, y)) for y in (0, 64, 66)] == [100, 128, 150]  # a row for each
    assert "[3/3] missing" in capsys.readouterr().out

    assert tool.main(argv) == 2
    assert [name for name, *_ in tool.trained[3:]] == ["missing"]


def test_all_recipes_of_the_digits_are_the_default(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "train", lambda recipe, folder, overrides: tool.trained.append(recipe) or 75)
    assert tool.main(["--output", str(tmp_path)]) == 75
    assert tool.trained == ["dit_ti_2_mnist"]  # a stop by a signal stops the rest too
    monkeypatch.setattr(tool, "train", lambda recipe, folder, overrides: tool.trained.append(recipe) or 1)
    assert tool.main(["--output", str(tmp_path)]) == 1
    assert tool.trained[1:] == [
        "dit_ti_2_mnist",
        *(name for name in sorted(tool.trained[2:]) if name.endswith("_mnist")),
    ]
