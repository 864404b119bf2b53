"""The race: who runs when, when a run is over, what is kept, and what the tables say; runs are made up."""

import json
import shutil
import sys

import pytest
from PIL import Image

from dit.errors import ConfigError
from dit.yaml12 import dump_yaml
from tests.command import ROOT, load_tool

PLAN = {
    "common": {"train.log_every": 10},
    "contenders": {
        "quick": {"recipe": "dit_ti_2_mnist", "changed": "Muon", "fields": {"optim.name": "muon"}},
        "slow": {"recipe": "dit_ti_2_mnist"},
    },
    "peer": {"recipe": "dit_ti_2_mnist_gaussian", "fields": {"optim.schedule": "constant"}},
    "tune": [{"optim.lr": 1e-4}, {"optim.lr": 2e-3}],
}
REACHES = {"quick": 100, "slow": 150, "peer": 1_000}
"""Seconds after which a run of the first seed reaches the target."""


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The script; training is made up, and stops when it is told to as it does."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    module = load_tool("race")
    module.trained = []
    monkeypatch.setattr(module, "commit", lambda: "abc1234")
    monkeypatch.setattr(module, "train", lambda *run: module.trained.append(run[1].name) or made_up(*run))
    (tmp_path / "plan.yaml").write_text(dump_yaml(PLAN))
    module.argv = ["--output", str(tmp_path / "race"), "--plan", str(tmp_path / "plan.yaml")]
    return module


def made_up(recipe, folder, options, is_enough):
    """A row of metrics every 50 seconds from where the run was; its distance is 2 when the target is reached."""
    given = dict(zip(options[::2], options[1::2], strict=True))
    name = "peer" if "gaussian" in recipe else "slow" if given.get("--optim.name") is None else "quick"
    reaches = REACHES[name] + 50 * int(given["--train.seed"])
    if given.get("--optim.lr") == "0.002":
        reaches -= 350  # what the search finds
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    step = len(path.read_text().splitlines()) if path.is_file() else 0
    while step < 40:
        step += 1
        row = {"step": step, "eval_frechet_distance": 2 * reaches / (50 * step), "eval_accuracy": 0.985}
        row |= {"eval_precision": 0.9, "eval_recall": 0.8, "seconds": {"train": 49.0 * step, "data": 1.0 * step}}
        with open(path, "a") as file:
            file.write(json.dumps(row) + "\n")
        if is_enough():
            return 75
    (folder / "status.json").write_text(json.dumps({"state": "done"}))
    return 0


def records(tool, tmp_path):
    return {record["run"]: record for record in json.loads((tmp_path / "race" / "records.json").read_text())}


def test_contenders_run_in_turns_and_stop_at_the_target_or_at_four_times_the_median(tool, tmp_path, capsys):
    assert tool.main([*tool.argv, "--seeds", "2"]) == 0
    turn = ["quick_seed={}", "slow_seed={}", "the-original_seed={}"]
    assert tool.trained == [name.format(seed) for seed in (0, 1) for name in turn] + ["the-original_seed=0"]
    found = records(tool, tmp_path)
    assert {name: (record["reached"], record["trained"]) for name, record in found.items()} == {
        "quick_seed=0": (100, 100),
        "slow_seed=0": (150, 150),
        "quick_seed=1": (150, 150),
        "slow_seed=1": (200, 200),
        "the-original_seed=1": (None, 500),  # the median of 100 and 150 is 125
        "the-original_seed=0": (None, 500),  # first stopped at 400, four times the 100 that were known
    }
    assert found["quick_seed=0"]["eval_frechet_distance"] == 2
    table = (tmp_path / "race" / "table.md").read_text()
    figures = "98.5% | 2.00 | 0.900 | 0.800"
    for line in (
        f"| quick | dit_ti_2_mnist | abc1234 | 2 of 2 | 125 (100 to 150) | < 0.25 | {figures} |"
        " Muon; `--optim.name muon` |",
        f"| slow | dit_ti_2_mnist | abc1234 | 2 of 2 | 175 (150 to 200) | < 0.35 | {figures} |  |",
        "| the original | dit_ti_2_mnist_gaussian | abc1234 | 0 of 2 | not reached |  | 98.5% | 4.10 (4.00 to 4.20) |",
    ):
        assert line in table
    assert table in capsys.readouterr().out
    with Image.open(tmp_path / "race" / "charts.png") as picture:
        assert picture.height > picture.width / 2  # two charts


def test_what_is_done_is_kept_and_what_was_stopped_goes_on(tool, tmp_path, monkeypatch):
    tool.main([*tool.argv, "--seeds", "1"])
    before = records(tool, tmp_path)
    shutil.rmtree(tmp_path / "race" / "quick_seed=0")  # so that a second training would be seen
    tool.trained.clear()
    assert tool.main([*tool.argv, "--seeds", "1"]) == 0
    assert tool.trained == []
    monkeypatch.setattr(tool, "ALLOWED", 12.0)
    assert tool.main([*tool.argv, "--seeds", "1"]) == 0
    assert tool.trained == ["the-original_seed=0"]
    assert before["the-original_seed=0"]["reached"] is None
    assert records(tool, tmp_path)["the-original_seed=0"]["reached"] == 1_000
    assert records(tool, tmp_path)["quick_seed=0"] == before["quick_seed=0"]
    assert "| 100 | 0.10 |" in (tmp_path / "race" / "table.md").read_text()


def test_the_peer_races_with_the_best_setting_that_the_search_found(tool, tmp_path):
    assert tool.main([*tool.argv, "--seeds", "1", "--tune"]) == 0
    searched = [name for name in tool.trained if name.startswith("tuning")]
    assert searched == ["tuning_lr=0.0001_seed=0", "tuning_lr=0.002_seed=0"]
    assert tool.trained.index(searched[0]) > tool.trained.index("slow_seed=0")  # which says how long it may take
    assert tool.trained[-1] == "the-original_lr=0.002_seed=0"
    log = (tmp_path / "race" / "tuning.md").read_text()
    assert "| tuning_lr=0.0001_seed=0 | abc1234 | 100 | not reached | 2 | 98.5% | 20.00 |" in log
    assert "| tuning_lr=0.002_seed=0 | abc1234 | 100 | not reached | 2 | 98.5% | 13.00 |" in log
    assert "tuning" not in (tmp_path / "race" / "table.md").read_text()


def test_a_run_that_fails_does_not_end_the_race(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tool, "train", lambda recipe, folder, *run: 1 if "slow" in folder.name else made_up(recipe, folder, *run)
    )
    assert tool.main([*tool.argv, "--seeds", "1"]) == 1
    found = records(tool, tmp_path)
    assert (found["slow_seed=0"]["reached"], found["slow_seed=0"]["trained"]) == (None, 0)
    assert found["the-original_seed=0"]["trained"] == 400


@pytest.mark.parametrize("on_signal", ["lambda *_: (signal.signal(15, signal.SIG_DFL), stop())", "signal.SIG_DFL"])
def test_training_is_told_once_when_it_is_enough(tool, tmp_path, monkeypatch, on_signal):
    """A process that is in the middle of its stop, or not ready for one, ends by the code of a stop; else by 3."""
    program = f"""
import signal, sys, time
def stop():
    time.sleep(1)
    sys.exit(75)
signal.signal(15, {on_signal})
time.sleep(20)
sys.exit(3)"""
    compare = sys.modules["compare_recipes"]
    start = compare.subprocess.Popen
    monkeypatch.setattr(compare.subprocess, "Popen", lambda command: start([sys.executable, "-c", program]))
    monkeypatch.setattr(compare, "POLL_SECONDS", 0.2)
    asked = []
    assert compare.train("r", tmp_path, [], lambda: asked.append(1) or len(asked) > 9) == 75
    assert len(asked) == 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contenders": {}}, r"plan\.yaml: contenders: expected"),
        ({"tune": [{"optim.lr": n} for n in range(1, 12)]}, r"plan\.yaml: tune: expected .* 10"),
        ({"common": {"optim.rl": 1}}, r"optim\.rl: unknown key"),
        ({"peer": {"recipe": "dit_ti_2_mnist", "seed": 1}}, r"peer\.seed: unknown key"),
    ],
)
def test_a_plan_is_checked_before_anything_is_trained(tool, tmp_path, changes, words):
    (tmp_path / "plan.yaml").write_text(dump_yaml(PLAN | changes))
    with pytest.raises(ConfigError, match=words):
        tool.main([*tool.argv, "--tune"])
    assert tool.trained == []


def test_records_are_added_to_the_document(tool, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "race.json").write_text("[]")
    shutil.copy(ROOT / "docs" / "race.md", docs)
    tool.main([*tool.argv, "--seeds", "1"])
    found = list(records(tool, tmp_path).values())
    charts = tmp_path / "race" / "charts.png"
    tool.document(found, charts, docs)
    tool.document([found[0] | {"commit": "def5678", "reached": 50}], charts, docs)
    text = (docs / "race.md").read_text()
    assert "| quick | dit_ti_2_mnist | abc1234 | 1 of 1 | 100 | < 0.25 |" in text
    assert "| quick | dit_ti_2_mnist | def5678 | 1 of 1 | 50 |  |" in text  # a row of its own, without a peer
    assert "|\n\n![Quality by seconds of training](race.png)" in text
    assert (docs / "race.png").is_file()
    assert text.split("<!-- race -->")[0] == (ROOT / "docs" / "race.md").read_text().split("<!-- race -->")[0]


def test_the_committed_plan_and_document_hold(tool, tmp_path):
    plan = tool.validate(tool.Plan, tool.read_yaml(ROOT / "tools" / "race.yaml"), origin="race.yaml")
    runs = {run.folder: run for run, _ in tool.turns(plan, 1, tmp_path, [], tune=True)}
    tool.check(list(runs.values()), [])
    text = (ROOT / "docs" / "race.md").read_text()
    known = json.loads((ROOT / "docs" / "race.json").read_text())
    assert tool.filled_in(text, known) == text, "run tools/race.py with --docs"
