"""A decay from a checkpoint of a long run is the run that was planned to end there."""

import json
import shutil

import pytest

from dit.errors import ConfigError
from tests.training.test_loop import assert_same_end, rows, train, train_until

WSD = {"optim.schedule": "wsd", "optim.decay_steps": 3}
LONG = {**WSD, "train.max_steps": 100}


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A run of 100 steps that died after its checkpoint of step 6; its name is told by the fixture's tests."""
    output = tmp_path_factory.mktemp("long") / "run"
    train_until(6, output, **LONG)
    return output


def of(run, step=3):
    return str(run / "checkpoints" / f"step-{step:08d}")


def test_it_is_the_run_that_was_planned_to_end_there(long_run, tmp_path):
    train(tmp_path / "planned", **WSD)  # 6 steps, of which 3 decay
    train(tmp_path / "decay", **LONG, **{"train.decay_from": of(long_run)})
    assert_same_end(tmp_path / "decay", tmp_path / "planned")
    assert [row["step"] for row in rows(tmp_path / "decay")] == [4, 5, 6]
    assert [row["lr"] for row in rows(tmp_path / "decay")] == [row["lr"] for row in rows(tmp_path / "planned")][3:]


def test_another_decay_from_the_same_run_is_longer(long_run, tmp_path):
    train(tmp_path / "run", **LONG | {"optim.decay_steps": 5, "train.decay_from": of(long_run, 6)})
    assert [row["step"] for row in rows(tmp_path / "run")] == [7, 8, 9, 10, 11]


def test_it_resumes_to_the_last_bit_without_the_long_run(long_run, tmp_path):
    copy = tmp_path / "long"
    shutil.copytree(long_run, copy)
    decay = {**LONG, "train.decay_from": of(copy), "train.checkpoint_every": 1, "train.keep_checkpoints": 9}
    train(tmp_path / "whole", **decay)
    train_until(5, tmp_path / "run", **decay)
    shutil.rmtree(copy)
    train(tmp_path / "run", resume=True, **decay)
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "run")] == [4, 5, 6]


def test_a_run_that_died_before_its_first_checkpoint_begins_again(long_run, tmp_path):
    """Though its steps have numbers far above that of the first checkpoint of a run from nothing."""
    decay = {**LONG, "train.decay_from": of(long_run, 6), "train.checkpoint_every": 2}
    train(tmp_path / "whole", **decay)
    train(tmp_path / "run", **decay)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    first = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0]
    (tmp_path / "run" / "metrics.jsonl").write_text(first + "\n")
    (tmp_path / "run" / "status.json").write_text(json.dumps({"state": "running"}))
    train(tmp_path / "run", resume=True, **decay)
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_it_goes_on_from_a_run_as_it_was_at_the_checkpoint(long_run, tmp_path):
    copy, changed = tmp_path / "long", {"optim.lr": 0.005}
    shutil.copytree(long_run, copy)
    on = {"train.max_steps": 7, "train.keep_checkpoints": 9}
    train(copy, resume=True, changed=changed, **LONG | changed | on)  # from step 6
    train(tmp_path / "run", **LONG, **{"train.decay_from": of(copy)})
    with pytest.raises(ConfigError, match=r"optim\.lr: the run has 0\.01, found 0\.005"):
        train(tmp_path / "other", **LONG | changed, **{"train.decay_from": of(copy)})


def test_a_constant_run_can_decay_too(tmp_path):
    constant = {"optim.schedule": "constant", "train.max_steps": 3}
    train(tmp_path / "long", **constant)
    train(tmp_path / "run", **WSD, **{"train.decay_from": of(tmp_path / "long")})
    train(tmp_path / "planned", **WSD)
    assert_same_end(tmp_path / "run", tmp_path / "planned")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"train.decay_from": "elsewhere"},
            r"train\.decay_from: expected a checkpoint of a run, such as .*, found elsewh",
        ),
        (
            {"train.decay_from": "no/checkpoints/step-00000003"},
            r"in the folder of its run, found none at no/checkpoints",
        ),
        ({"optim.schedule": "constant"}, r"train\.decay_from: expected optim\.schedule wsd, found constant"),
        (
            {"optim.lr": 0.5},
            r"train\.decay_from goes on from a run with the recipe.*optim\.lr: the run has 0\.01, found 0\.5",
        ),
    ],
)
def test_what_does_not_fit_is_refused(long_run, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", **LONG | {"train.decay_from": of(long_run)} | overrides)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_checkpoint_of_a_decay_is_refused(tmp_path):
    train(tmp_path / "short", **WSD, **{"train.checkpoint_every": 1, "train.keep_checkpoints": 9})
    with pytest.raises(
        ConfigError, match=r"at most step 3, where the learning rates of .*short begin to fall, found 4"
    ):
        train(tmp_path / "run", **WSD, **{"train.decay_from": of(tmp_path / "short", 4)})
