"""Real training processes, killed at every write and at random moments, or one of two killed, stopped or signalled.

With -s the long run prints what each kill hit.
"""

import json
import random
import re
import signal
import time

import pytest

from tests.training.forks import fork
from tests.training.test_loop import ADAPTIVE, assert_same_end, compared, torchrun, train

pytestmark = pytest.mark.slow
ALL_KINDS = {  # of state that a checkpoint or a snapshot holds
    "process.time_law": ADAPTIVE,
    "ema.further_decays": [0.5],
    "ema.sigma_rels": [0.05, 0.1],
    "ema.snapshot_every": 2,
}
LONG = {**ALL_KINDS, "train.max_steps": 200, "train.checkpoint_every": 10, "ema.snapshot_every": 25}
NUM_KILLS = 20


def start(output, overrides, failpoint=""):
    """Begin or resume a run in a process that can be killed."""
    return fork(ARGUMENTS=[str(output), json.dumps(overrides), "--resume"], FAILPOINT=failpoint)


def end_of(process, seconds=120.0):
    process.join(seconds)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def wait_for(condition, process, pause):
    while process.is_alive() and not condition():
        time.sleep(pause)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    train(output, **ALL_KINDS)
    return output


SITES = [
    *(f"checkpoint-3:{name}" for name in ("model", "optimizer", "ema", "power-0.05", "state", "manifest", "renamed")),
    "rename:step-00000006",
    "checkpoint-4:power-0.1",  # a snapshot
    "rename:step-00000004",
    "write:status.json",
    "write:metrics.jsonl",
]


@pytest.mark.parametrize("site", SITES)
def test_killed_at_a_write(tmp_path, whole, site):  # C1
    output = tmp_path / "run"
    assert end_of(start(output, ALL_KINDS, f"{site}:kill")) == -signal.SIGKILL
    train(output, resume=True, **ALL_KINDS)
    assert compared(output) == compared(whole)
    assert_same_end(output, whole)
    assert not list(output.rglob(".tmp-*"))


def test_killed_while_an_old_checkpoint_is_deleted(tmp_path):  # C1
    often = {**ALL_KINDS, "train.checkpoint_every": 1}
    train(tmp_path / "whole", **often)
    assert end_of(start(tmp_path / "run", often, "checkpoint-2:prune:kill")) == -signal.SIGKILL
    train(tmp_path / "run", resume=True, **often)
    assert compared(tmp_path / "run") == compared(tmp_path / "whole")
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_killed_at_random_moments(tmp_path):  # T1, T2
    """Spread over one run; every second kill waits for the next checkpoint and hits the process while it writes."""
    train(tmp_path / "whole", **LONG)
    output, draw, in_writes = tmp_path / "run", random.Random(0), 0

    def steps():
        return len((output / "metrics.jsonl").read_text().splitlines()) if (output / "metrics.jsonl").exists() else 0

    def is_reached(process, step):
        # The rows of the process that was killed before count only once this one has cut them to its checkpoint.
        status = output / "status.json"
        return status.exists() and json.loads(status.read_text())["pid"] == process.pid and steps() >= step

    def unfinished():
        return [path.name for path in (output / "checkpoints").glob(".tmp-*")]

    for number, moment in enumerate(sorted(draw.uniform(0, 180) for _ in range(NUM_KILLS)), start=1):
        process = start(output, LONG)
        wait_for(lambda: is_reached(process, int(moment)), process, 0.002)  # noqa: B023 - called at once
        if number % 2:
            wait_for(unfinished, process, 0.0001)
        else:
            time.sleep(0.01 * (moment % 1))  # anywhere within the step
        process.kill()
        assert end_of(process) == -signal.SIGKILL, "it ended before it was killed"
        torn = unfinished()
        in_writes += bool(torn)
        where = f"while it wrote {re.sub('^.tmp-|[.][0-9]+$', '', torn[0])}" if torn else "outside of writes"
        print(f"kill {number}: after {steps()} steps, {where}")
    assert end_of(start(output, LONG)) == 0
    assert compared(output) == compared(tmp_path / "whole")
    assert_same_end(output, tmp_path / "whole")
    assert in_writes >= NUM_KILLS // 4


TWO = {"train.gradient_accumulation": 2, "train.timeout": 15.0, "train.checkpoint_every": 2}


@pytest.mark.parametrize("kind", ["none", "fsdp2"])
@pytest.mark.parametrize(
    ("action", "fate"),
    [("kill", "is gone"), ("signal=STOP", r"is silent for \d+ s")],
)
def test_one_process_of_two_is_killed_or_stopped(tmp_path, action, fate, kind):  # T11, T12
    env, shard = {"DIT_FAILPOINT": f"step-3-rank-1-micro-0:{action}"}, {"train.shard": kind}
    done = torchrun(tmp_path / "run", env=env, **TWO, **shard)
    assert done.returncode != 0
    assert re.search(rf"dit: process 0: .*process 1 \(pid \d+ on .*\) {fate}, last seen at step", done.stderr)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]


def test_signal_to_one_process_of_two_stops_both(tmp_path):  # T5
    done = torchrun(tmp_path / "run", env={"DIT_FAILPOINT": "step-3-rank-1-micro-0:signal=USR1"}, **TWO)
    assert done.stderr.count("dit: stopped by a signal after step 4; go on with --resume") == 2
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "preempted"


def test_loss_that_is_not_finite_in_one_process_of_two_stops_both(tmp_path):  # T7
    done = torchrun(tmp_path / "run", env={"DIT_FAILPOINT": "step-3-rank-1-micro-0:nan"}, **TWO)
    assert done.stderr.count("dit: step 4: found a loss that is not finite in 1 samples of process 1") == 2
    dump = json.loads((tmp_path / "run" / "bad-step-4-rank-1.json").read_text())
    assert [sample["position"] for sample in dump["samples"]] == [28]
