"""The comparison of recipes, with finished runs in place of training."""

import json
import re
import shutil

import pytest
from PIL import Image

import dit
from dit.errors import ConfigError
from dit.files import ASSETS
from tests.command import load_tool


@pytest.fixture
def tool(monkeypatch):
    """The script, whose training hands out the two shipped models after 100 and 150 seconds; a third recipe fails."""
    module = load_tool("compare_recipes")
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
        known = ["accuracy", "frechet_distance", *(["precision", "recall"] if "precision" in figures else [])]
        assert [figure["value"] for figure in row["figures"]] == [figures[name] for name in known]
    assert rows[0]["parameters"] == 4_170_640
    table = (tmp_path / "table.md").read_text()
    found = json.loads((ASSETS / "dit_ti_2.mnist" / "eval.json").read_text())
    accuracy = f"{found['accuracy']:.4f} ± {found['accuracy_standard_error']:.4f}"
    distance = f"{found['frechet_distance']:.2f} ± {found['frechet_standard_error']:.2f}"
    figures = re.escape(f"{accuracy} | {distance} | 0.6615 |")
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


def test_settings_are_varied_and_seeds_are_one_row(tool, tmp_path, monkeypatch, capsys):
    """Quality and time as runs of four settings would have them, by their seeds."""

    def train(recipe, folder, overrides):
        tool.trained.append((folder.name, *overrides))
        lr, seed = float(overrides[1]), int(overrides[3])
        shutil.copytree(ASSETS / "dit_ti_2.mnist", folder / "export")
        path = folder / "export" / "eval.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"frechet_distance": 1000 * lr + seed}))
        rows = [{"step": n, "val_loss": lr * 1000 / n + seed, "seconds": {"train": 10.0 * n}} for n in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "status.json").write_text(json.dumps({"step": 2, "seconds": {"train": 20 + seed, "data": 1}}))
        return 0

    monkeypatch.setattr(tool, "train", train)
    monkeypatch.setattr(tool, "draw_samples", lambda runs, path: path.write_text(" ".join(runs)))
    drawn = []
    chart = tool.line_chart
    monkeypatch.setattr(tool, "line_chart", lambda *args, **named: drawn.append(args) or chart(*args, **named))
    argv = ["dit_ti_2_mnist", "--vary", "optim.lr=1e-3,2e-3", "--vary", "train.seed=0,1,4", "--output", str(tmp_path)]
    assert tool.main(argv) == 0
    assert tool.trained[1] == ("dit_ti_2_mnist_lr=0.001_seed=1", "--optim.lr", "0.001", "--train.seed", "1")
    assert len(tool.trained) == 6
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [(row["optim.lr"], row["train.seed"]) for row in rows] == [(lr, s) for lr in (1e-3, 2e-3) for s in (0, 1, 4)]
    table = (tmp_path / "table.md").read_text()
    assert "Of several seeds: the median (the least to the most)." in table
    # Medians over the seeds 0, 1 and 4, and ranges.
    cells = r"4,170,640 \| 2 \| 22 \(21 to 25\) \| 1\.00 \(0\.95 to 1\.14\)"
    assert re.search(rf"\| dit_ti_2_mnist_lr=0\.001 \| 3 \| {cells} \| 1\.500 \(0\.500 to 4\.500\) \|", table)
    accuracy = json.loads((ASSETS / "dit_ti_2.mnist" / "eval.json").read_text())["accuracy"]
    assert re.search(rf"\| dit_ti_2_mnist_lr=0\.002 \|.*\| {accuracy} \| 3 \(2 to 6\) \| 0\.6615 \|", table)
    (_, losses), (title, quality) = drawn[-2:]
    assert [(list(line.x), list(line.y), list(line.errors)) for line in losses] == [
        ([10, 20], [2, 1.5], [2, 2]),
        ([10, 20], [3, 2], [2, 2]),
    ]
    assert title == "Frechet distance (mnist)"
    assert [(line.x, line.y, line.errors) for line in quality] == [([22], [2], [2]), ([22], [3], [2])]
    with Image.open(tmp_path / "charts.png") as picture:
        assert picture.height > picture.width / 2  # two charts
    assert (tmp_path / "samples.png").read_text() == "dit_ti_2_mnist_lr=0.001 dit_ti_2_mnist_lr=0.002"
    assert table in capsys.readouterr().out


def test_settings_are_compared_at_the_time_of_the_quickest(tool, tmp_path, monkeypatch):
    """One step of three takes 10 seconds, or 25; evaluations find 30, 20 and 10."""

    def train(recipe, folder, overrides):
        seconds = 10.0 if overrides[1] == "adamw" else 25.0
        shutil.copytree(ASSETS / "dit_ti_2.mnist", folder / "export")
        rows = [
            {"step": n, "eval_frechet_distance": 40.0 - 10 * n, "seconds": {"train": seconds * n}} for n in (1, 2, 3)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "status.json").write_text(json.dumps({"step": 3, "seconds": {"train": 3 * seconds}}))
        return 0

    monkeypatch.setattr(tool, "train", train)
    monkeypatch.setattr(tool, "draw_samples", lambda runs, path: None)
    drawn = []
    monkeypatch.setattr(tool, "line_chart", lambda title, *_, **__: drawn.append(title))
    monkeypatch.setattr(tool, "save_charts", lambda charts, path: None)
    assert tool.main(["dit_ti_2_mnist", "--vary", "optim.name=adamw,muon", "--output", str(tmp_path)]) == 0
    table = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("|")]
    heading, _, *lines = table
    column = [cell.strip() for cell in heading.split("|")].index("Frechet distance after 30 s")
    assert [line.split("|")[column].strip() for line in lines] == ["10.00", "28.00"]
    assert "Frechet distance on the way" in drawn
    log = [{"eval_frechet_distance": 5.0, "seconds": {"train": 20.0, "data": 5.0}}]
    assert [tool.distance_in_time(log, seconds) for seconds in (24, 25, 90)] == [None, 5, 5]


def test_what_can_not_vary_is_refused_before_anything_is_trained(tool, tmp_path):
    argv = ["dit_ti_2_mnist", "--output", str(tmp_path), "--vary"]
    with pytest.raises(ConfigError, match=r"--optim\.lr: expected a value greater than 0"):
        tool.main([*argv, "optim.lr=1e-3,-1"])
    with pytest.raises(ConfigError, match=r"optim\.rl: unknown key"):
        tool.main([*argv, "optim.rl=1"])
    with pytest.raises(ConfigError, match=r"--vary: expected every field once, found optim\.lr again"):
        tool.main([*argv, "optim.lr=1e-3", "--vary", "optim.lr=2e-3"])
    routing = "objective.routing=null,{rejoin_after: 4},{rejoin_after: 2}"
    with pytest.raises(ConfigError, match=r"leave_after: expected a block before 2, found 2"):
        tool.main([*argv, routing])
    assert tool.trained == []
