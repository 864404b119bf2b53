"""Faults in a run of its own process or in this one: what is written, what is said, and how the run goes on."""

import json
import os
import signal
import subprocess
import sys

import pytest

from dit import checkpoint
from dit.data.order import positions_to_indices
from dit.errors import DitError, Preempted
from dit.training.monitor.health import SpikeMonitor
from tests.training.test_loop import assert_same_end, compared, rows, torchrun, train

SCRIPT = os.path.join(os.path.dirname(__file__), "train_fake.py")


@pytest.fixture
def failpoint(monkeypatch, capfd):
    """Set a failpoint for runs in this process; the test ends by checking that it fired."""
    monkeypatch.setenv("DIT_FAILPOINT", "")
    yield lambda request: monkeypatch.setenv("DIT_FAILPOINT", request)
    assert "failpoint fired" in capfd.readouterr().err


def status(output):
    return json.loads((output / "status.json").read_text())


def test_loss_that_is_not_finite_stops_before_the_update(tmp_path, failpoint):  # T7
    failpoint("step-4-rank-0-micro-1:nan")
    with pytest.raises(DitError, match=r"step 5: found a loss that is not finite in 1 samples of process 0"):
        train(tmp_path / "run", **{"train.gradient_accumulation": 2})
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3, 4]
    assert status(tmp_path / "run")["state"] == "failed"
    dump = json.loads((tmp_path / "run" / "bad-step-5-rank-0.json").read_text())
    assert [sample["position"] for sample in dump["samples"]] == [36]
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").step == 3


def test_gradient_that_is_not_finite_stops_before_the_update(tmp_path, whole, failpoint):  # T8
    failpoint("gradient-4-rank-0:inf")
    with pytest.raises(DitError, match=r"step 5: found a gradient norm of (inf|nan)"):
        train(tmp_path / "run")
    dump = json.loads((tmp_path / "run" / "bad-step-5-rank-0.json").read_text())
    assert [sample["position"] for sample in dump["samples"]] == list(range(32, 40))
    failpoint("")
    train(tmp_path / "run", resume=True)
    assert compared(tmp_path / "run") == compared(whole)
    assert_same_end(tmp_path / "run", whole)


def test_gradient_that_is_not_finite_in_one_process_stops_all(tmp_path):  # T8
    env = {"DIT_FAILPOINT": "gradient-4-rank-1:inf"}
    done = torchrun(tmp_path / "run", env=env, **{"train.timeout": 20.0, "train.gradient_accumulation": 2})
    assert "failpoint fired" in done.stderr
    assert done.stderr.count("dit: step 5: found a gradient norm of inf; nothing was updated") == 2
    assert status(tmp_path / "run")["state"] == "failed"
    dumps = [json.loads((tmp_path / "run" / f"bad-step-5-rank-{rank}.json").read_text()) for rank in (0, 1)]
    positions = [sample["position"] for dump in dumps for sample in dump["samples"]]
    assert positions == list(range(32, 40))
    epoch = positions_to_indices(positions, 48, seed=0)
    assert [sample["index"] for dump in dumps for sample in dump["samples"]] == list(epoch)


def test_signal_saves_this_step_and_stops(tmp_path, whole, failpoint):  # T4
    failpoint("step-3-rank-0-micro-0:signal=TERM")
    with pytest.raises(Preempted, match=r"stopped by a signal after step 4; go on with --resume"):
        train(tmp_path / "run")
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").step == 4
    assert status(tmp_path / "run")["state"] == "preempted"
    train(tmp_path / "run", resume=True)
    assert status(tmp_path / "run")["state"] == "done"
    assert compared(tmp_path / "run") == compared(whole)
    assert_same_end(tmp_path / "run", whole)


def test_signal_in_the_last_step_changes_nothing(tmp_path, whole, failpoint):
    failpoint("step-5-rank-0-micro-0:signal=TERM")
    train(tmp_path / "run")
    assert status(tmp_path / "run")["state"] == "done"
    assert_same_end(tmp_path / "run", whole)


def test_second_signal_while_saving_does_not_disturb(tmp_path, failpoint):  # T6
    failpoint("step-3-rank-0-micro-0:signal=TERM,checkpoint-4:model:signal=TERM")
    with pytest.raises(Preempted):
        train(tmp_path / "run")
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").step == 4


def test_out_of_memory_says_what_to_do(tmp_path, failpoint):  # T16
    failpoint("step-4-rank-0-micro-0:oom")
    with pytest.raises(DitError, match=r"out of memory with 8 images.*latent size \[4, 4\]"):
        train(tmp_path / "run")
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").step == 3


def test_full_disk_stops_and_keeps_the_older_checkpoint(tmp_path, failpoint):  # C2
    failpoint("checkpoint-6:ema:enospc")
    with pytest.raises(DitError, match=r"step-00000006: this checkpoint could not be written \(No space left"):
        train(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    assert status(tmp_path / "run")["state"] == "failed"


def test_killed_run_goes_on_bit_for_bit(tmp_path):  # T1, T3; killed at every write: test_kills.py
    split = {"train.gradient_accumulation": 2}
    train(tmp_path / "whole", **split)
    done = subprocess.run(
        [sys.executable, SCRIPT, str(tmp_path / "run"), json.dumps(split)],
        env=os.environ | {"PYTHONPATH": os.getcwd(), "DIT_FAILPOINT": "step-4-rank-0-micro-1:kill"},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    assert status(tmp_path / "run")["state"] == "running"
    train(tmp_path / "run", resume=True, **split)
    assert compared(tmp_path / "run") == compared(tmp_path / "whole")
    assert_same_end(tmp_path / "run", tmp_path / "whole")


class Nervous(SpikeMonitor):
    """Takes every loss for a spike once it is warm."""

    def add(self, step, loss):
        return super().add(step, loss if len(self.recent) < self.warm_up else 1e9)


def test_spike_can_end_the_run(tmp_path, monkeypatch):  # T10
    monkeypatch.setattr("dit.training.setup.SpikeMonitor", lambda sigma: Nervous(sigma, warm_up=2))
    train(tmp_path / "warned")
    assert rows(tmp_path / "warned")[-1]["spikes"] == 4
    with pytest.raises(DitError, match=r"step 3: the loss rose.*train\.on_spike"):
        train(tmp_path / "stopped", **{"train.on_spike": "stop"})


def test_tracker_that_fails_does_not_end_the_run(tmp_path, monkeypatch, capsys):  # T17
    def fail(*arguments):
        raise ConnectionError("unreachable")

    monkeypatch.setattr("dit.training.monitor.trackers._start", fail)
    train(tmp_path / "run", **{"train.trackers": ["wandb"]})
    assert "wandb could not be started (unreachable)" in capsys.readouterr().err


def test_ranks_with_different_recipes_are_refused(tmp_path):  # T13
    done = torchrun(tmp_path / "run", env={"OVERRIDES_1": json.dumps({"optim.lr": 0.5})})
    assert done.returncode != 0
    assert "optim.lr: expected 0.01 as in process 0, found 0.5 in process 1" in done.stderr
    assert not (tmp_path / "run").exists()
