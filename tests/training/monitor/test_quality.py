"""Evaluations while a run trains: their figures, the best average, exact resume, any number of processes."""

import json
from types import SimpleNamespace

import pytest
import torch

from dit import checkpoint
from dit.errors import ConfigError
from dit.training.monitor import quality
from dit.training.monitor.quality import Quality
from dit.training.ranks.processes import start_processes
from dit.zoo.export import find_best
from tests.training.fakes import make_extractor, make_held_out, make_parts, make_recipe
from tests.training.forks import train_in
from tests.training.test_loop import assert_same_end, compared, rows, train, train_until

EVERY_2 = {"train.evaluate_every": 2, "evaluation.features": "pixels", "evaluation.num": 12, "evaluation.batch_size": 5}


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(quality, "load_features", make_extractor)
    monkeypatch.setattr(quality, "open_images", make_held_out)


@pytest.fixture
def evaluated(tmp_path):
    train(tmp_path / "evaluated", **EVERY_2)
    return tmp_path / "evaluated"


def figures(output):
    return {row["step"]: row["eval_frechet_distance"] for row in rows(output) if "eval_frechet_distance" in row}


def test_the_rows_hold_the_figures_and_the_best_average_is_kept(evaluated):
    found = figures(evaluated)
    assert list(found) == [2, 4, 6]
    assert all(0 <= row["eval_accuracy"] <= 1 for row in rows(evaluated) if "eval_accuracy" in row)
    assert rows(evaluated)[-1]["seconds"]["evaluation"] > 0
    assert not (evaluated / "evaluation").exists()
    best = checkpoint.load_newest(evaluated / "best")
    assert len(list((evaluated / "best").iterdir())) == 1
    assert best.step == min(found, key=found.get)
    assert best.state["frechet_distance"] == found[best.step]
    assert best.state["images_seen"] == 8 * best.step


def test_parts_of_weights_are_gathered_for_it(evaluated, tmp_path):
    """Whether there are two processes or one, and whatever each holds, the same samples are the best."""
    options = {"train.shard": "fsdp2", "train.checkpoint_every": 2, "train.keep_checkpoints": 3}
    done = train_in(2, tmp_path / "run", **EVERY_2, **options)
    assert done.codes == [0, 0], done.said
    assert figures(tmp_path / "run") == pytest.approx(figures(evaluated), rel=1e-4)
    (best,) = (tmp_path / "run" / "best").iterdir()
    assert best.name == next((evaluated / "best").iterdir()).name
    kept, average = (checkpoint.load(path).tensors("ema") for path in (best, tmp_path / "run/checkpoints" / best.name))
    assert kept.keys() == average.keys()
    assert all(torch.equal(value, average[name]) for name, value in kept.items())
    (part, _) = find_best(tmp_path / "run")["weights"]
    assert part.name == "ema-00001-of-00002.safetensors"


def test_the_best_is_the_average_of_its_step(tmp_path, monkeypatch):
    """By made-up figures: the second of three evaluations is the best."""
    distances = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(Quality, "measure", lambda self, network, folder: {"frechet_distance": next(distances)})
    train(tmp_path / "run", **EVERY_2, **{"train.checkpoint_every": 2, "train.keep_checkpoints": 3})
    (best,) = (tmp_path / "run" / "best").iterdir()
    saved = checkpoint.load(tmp_path / "run" / "checkpoints" / best.name)
    assert best.name == "step-00000004"
    kept, average = checkpoint.load(best).tensors("ema"), saved.tensors("ema")
    assert all(torch.equal(value, average[name]) for name, value in kept.items())
    assert kept.keys() == average.keys()


def test_evaluations_change_no_weight_and_resume_to_the_last_bit(evaluated, whole, tmp_path):
    assert_same_end(evaluated, whole)
    train_until(3, tmp_path / "run", **EVERY_2)
    train(tmp_path / "run", resume=True, **EVERY_2)
    assert_same_end(tmp_path / "run", evaluated)
    assert compared(tmp_path / "run") == compared(evaluated)
    assert figures(tmp_path / "run") == figures(evaluated)
    best = [
        json.loads((next((run / "best").iterdir()) / "state.json").read_text()) for run in (tmp_path / "run", evaluated)
    ]
    assert best[0] == best[1]


def test_a_worse_evaluation_leaves_a_best_of_a_later_step_that_was_given_up(tmp_path, monkeypatch):
    """A run that is resumed from before its best goes on to other weights, and the best of all stays alone."""
    distances = iter([2.0, 3.0, 1.0])
    monkeypatch.setattr(Quality, "measure", lambda self, network, folder: {"frechet_distance": next(distances)})
    train_until(1, tmp_path / "run", **EVERY_2, **{"train.checkpoint_every": 1})
    checkpoint.save(tmp_path / "run" / "best", 5, {"ema": {"x": torch.zeros(1)}}, {"frechet_distance": 2.5})
    train(tmp_path / "run", resume=True, **EVERY_2, **{"train.checkpoint_every": 1})
    assert [path.name for path in (tmp_path / "run" / "best").iterdir()] == ["step-00000006"]


class OneOfTwo:
    """A process of two, of which the other, rank 1, has gone first."""

    def __init__(self, processes, rank):
        self.processes, self.rank, self.count = processes, rank, 2

    def __getattr__(self, name):
        return getattr(self.processes, name)

    def on_main(self, action):
        return action() if self.rank == 0 else None


def test_two_processes_measure_what_one_does(tmp_path, monkeypatch):
    recipe = make_recipe(**EVERY_2)
    model, process, codec, data, _ = make_parts(recipe)
    source = SimpleNamespace(dataset=data, codec=codec, num_classes=3)
    monkeypatch.setattr(quality.shutil, "rmtree", lambda *_, **__: None)
    drawn, sample = [], quality.sample
    monkeypatch.setattr(
        quality, "sample", lambda *_, **options: drawn.append(options["positions"]) or sample(*_, **options)
    )

    def measured(processes, name):
        return Quality(recipe, process, source, processes, make_extractor(), make_held_out()).measure(
            model.eval(), tmp_path / name
        )

    alone = start_processes(recipe.train)
    expected = measured(alone, "one")
    assert [positions[0] for positions in drawn] == [0, 5, 10]
    drawn.clear()
    assert measured(OneOfTwo(alone, 1), "two") == {}
    assert [positions[0] for positions in drawn] == [5]
    assert measured(OneOfTwo(alone, 0), "two") == expected
    assert [positions[0] for positions in drawn] == [5, 0, 10]
    assert expected["frechet_distance"] > 0


def test_without_features_it_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.evaluate_every: expected evaluation\.features.*found none"):
        train(tmp_path / "run", **{"train.evaluate_every": 2, "data.source": "folder"})
