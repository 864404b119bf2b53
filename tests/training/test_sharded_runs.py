"""Runs whose weights are dealt to two processes: as exact as those in which each process has all, and half as large."""

import json
import re
import shutil
import signal

import pytest
import torch

from dit import checkpoint
from dit.checkpoint import load_newest
from dit.errors import ConfigError, Preempted
from dit.files import sha256
from dit.zoo.export import export
from dit.zoo.source import locate
from tests.training.fakes import make_recipe
from tests.training.forks import train_in
from tests.training.test_loop import compared, losses, rows, train

EXACT = {  # every part is a whole number of vectors: the kernels of a CPU round the rest of a tensor in another way
    "model.hidden_size": 32,
    "optim.trainable": ["*weight", "blocks.*bias", "*embedder*bias", "final_layer.adaLN*bias"],
    "ema.further_decays": [0.5],
}
LONG = {**EXACT, "train.max_steps": 50, "train.log_every": 1, "train.checkpoint_every": 25}
LONG |= {"train.validate_every": 25, "ema.sigma_rels": [0.1], "ema.snapshot_every": 25, "train.preview_every": 50}
LONG |= {"train.validation_samples": 9}  # of which one process makes a call more than the other
FSDP2, KINDS = {"train.shard": "fsdp2"}, ("fsdp2", "none")


def trained_in(count, output, *flags, env=None, local=None, **overrides):
    """Train in processes of their own that all end well."""
    done = train_in(count, output, *flags, env=env, local=local, **overrides)
    assert done.codes == [0] * count, done.said
    return output


def status(output):
    return json.loads((output / "status.json").read_text())


def tensors_of(output, step=None):
    """All tensors of a run's checkpoint and snapshots, by file and name."""
    saved = [load_newest(output / "checkpoints"), *checkpoint.load_all(output / "snapshots")]
    names = {re.sub(r"(-\d{5}-of-\d{5})?\.safetensors", "", path.name) for path in saved[0].path.glob("*.safetensors")}
    assert {"model", "optimizer", "ema"} <= names
    return {
        (part.step, name, key): tensor
        for part in saved
        for name in names
        if part.holds(name)
        for key, tensor in part.tensors(name).items()
    }


def assert_same_tensors(one, other):
    """Two runs ended in the same weights, averages and optimizer state, to the last bit, in whatever files."""
    found, expected = tensors_of(one), tensors_of(other)
    assert found.keys() == expected.keys()
    assert [key for key, tensor in found.items() if not torch.equal(tensor, expected[key])] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def whole(folder):
    """An uninterrupted run in two processes that have all weights each."""
    return trained_in(2, folder / "whole", **LONG)


@pytest.fixture(scope="module")
def dealt(folder):
    """The same run with the weights dealt to both."""
    return trained_in(2, folder / "dealt", **LONG, **FSDP2)


def test_parts_train_as_the_whole_to_the_last_bit(whole, dealt):
    assert compared(dealt) == compared(whole)
    assert [row["val_loss_of_average"] for row in rows(dealt)[24::25]] == [
        row["val_loss_of_average"] for row in rows(whole)[24::25]
    ]
    assert_same_tensors(dealt, whole)
    pictures = [(run / "samples" / "step-00000050.png").read_bytes() for run in (dealt, whole)]
    assert pictures[0] == pictures[1]
    sizes = [path.stat().st_size for path in (dealt / "checkpoints" / "step-00000050").glob("ema-0000*.safetensors")]
    assert len(sizes) == 2
    assert max(sizes) < 1.2 * min(sizes)


def test_parts_train_like_one_process(folder, dealt):
    train(folder / "alone", **LONG)
    assert losses(dealt) == pytest.approx(losses(folder / "alone"), rel=1e-5)


def test_bfloat16_is_as_near_as_that_of_the_whole(folder):
    """Blocks are gathered in the type that autocast computes them in, so that the losses are the very same."""
    short = {**LONG, "train.max_steps": 20, "train.mixed_precision": "bf16"}
    found, expected = (trained_in(2, folder / f"bf16-{kind}", **short, **{"train.shard": kind}) for kind in KINDS)
    assert compared(found) == compared(expected)
    assert_same_tensors(found, expected)


def test_exports_are_the_same_bytes(folder, whole, dealt):
    for name in ("whole", "dealt"):
        export(folder / name, folder / f"{name}-export", samples=False)
    paths = [folder / f"{name}-export" / "model.safetensors" for name in ("whole", "dealt")]
    assert sha256(paths[0]) == sha256(paths[1])
    part = next((dealt / "checkpoints" / "step-00000050").glob("ema-0*.safetensors"))
    assert len(locate(part).weights) == len(locate(dealt).weights) == 4  # what is trained over what is not


def test_a_run_goes_on_in_parts_to_the_last_bit(folder, dealt):
    """A signal to one process stops both with a checkpoint of the same step; T4, T5."""
    output = folder / "resumed"
    done = train_in(2, output, env={"DIT_FAILPOINT": "step-24-rank-1-micro-0:signal=USR1"}, **LONG, **FSDP2)
    assert done.codes == [75, 75], done.said
    assert all("stopped by a signal after step 25; go on with --resume" in said for said in done.said)
    assert status(output)["state"] == "preempted"
    shutil.copytree(output, folder / "other-resumed")
    trained_in(2, output, "--resume", **LONG, **FSDP2)
    assert compared(output) == compared(dealt)
    assert_same_tensors(output, dealt)


def test_a_signal_to_both_stops_them_at_the_same_step(folder, dealt):  # T4
    output, sites = folder / "signalled", [f"step-24-rank-{rank}-micro-0:signal=TERM" for rank in (0, 1)]
    done = train_in(2, output, env={"DIT_FAILPOINT": ",".join(sites)}, **LONG, **FSDP2)
    assert done.codes == [75, 75], done.said
    assert [said.count("failpoint fired") for said in done.said] == [1, 1]
    assert all("stopped by a signal after step 25; go on with --resume" in said for said in done.said)
    assert load_newest(output / "checkpoints").step == 25
    trained_in(2, output, "--resume", **LONG, **FSDP2)
    assert compared(output) == compared(dealt)
    assert_same_tensors(output, dealt)


def test_groups_train_like_one_process_and_go_on(tmp_path):
    """Two groups of two; a signal to all stops them in between (T4)."""
    short = {**EXACT, "train.max_steps": 4}
    groups = {**short, "train.shard": "hsdp", "train.shard_size": 2}
    sites = [f"step-1-rank-{rank}-micro-0:signal=TERM" for rank in range(4)]
    done = train_in(4, tmp_path / "run", env={"DIT_FAILPOINT": ",".join(sites)}, **groups)
    assert done.codes == [75] * 4, done.said
    assert load_newest(tmp_path / "run" / "checkpoints").step == 2
    trained_in(4, tmp_path / "run", "--resume", **groups)
    train(tmp_path / "alone", **short)
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)  # sums in another order


def test_a_run_goes_on_in_another_number_of_processes(folder, dealt, monkeypatch):  # T14
    output = folder / "other-resumed"
    monkeypatch.setenv("DIT_FAILPOINT", "step-34-rank-0-micro-0:signal=TERM")
    with pytest.raises(Preempted, match="after step 35"):
        train(output, resume=True, **LONG)
    monkeypatch.delenv("DIT_FAILPOINT")
    trained_in(2, output, "--resume", **LONG, **FSDP2)
    assert [row["num_processes"] for row in rows(output)[::5]] == [2] * 5 + [1] * 2 + [2] * 3
    assert losses(output) == pytest.approx(losses(dealt), rel=1e-5)


def test_a_killed_process_is_named_and_its_run_goes_on_exactly(folder, dealt):  # T11
    output, env = folder / "killed", {"DIT_FAILPOINT": "step-30-rank-1-micro-0:kill"}
    done = train_in(2, output, env=env, **LONG, **FSDP2, **{"train.timeout": 30.0})
    assert done.codes == [1, -signal.SIGKILL]
    assert done.seconds < 30
    assert re.search(r"dit: process 0: .*process 1 \(pid \d+ on .*\) is gone, last seen at step", done.said[0])
    assert status(output)["state"] == "failed"
    trained_in(2, output, "--resume", **LONG, **FSDP2)
    assert compared(output) == compared(dealt)
    assert_same_tensors(output, dealt)


def test_a_loss_that_is_not_finite_in_one_process_stops_both(tmp_path):  # T7
    done = train_in(2, tmp_path / "run", env={"DIT_FAILPOINT": "step-4-rank-1-micro-0:nan"}, **FSDP2)
    assert done.codes == [1, 1]
    assert all("step 5: found a loss that is not finite in 1 samples of process 1" in said for said in done.said)
    dump = json.loads((tmp_path / "run" / "bad-step-5-rank-1.json").read_text())
    assert [sample["position"] for sample in dump["samples"]] == [36]
    assert load_newest(tmp_path / "run" / "checkpoints").step == 3


def test_a_gradient_that_is_not_finite_in_one_process_stops_both(tmp_path):  # T8
    env, split = {"DIT_FAILPOINT": "gradient-4-rank-1:inf"}, {"train.gradient_accumulation": 2}
    done = train_in(2, tmp_path / "run", env=env, **FSDP2, **split)
    assert done.codes == [1, 1]
    assert all("step 5: found a gradient norm of inf; nothing was updated" in said for said in done.said)
    dumps = [json.loads((tmp_path / "run" / f"bad-step-5-rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert [row["position"] for dump in dumps for row in dump["samples"]] == list(range(32, 40))


def test_memory_that_ran_out_in_one_process_is_told(tmp_path):  # T16
    env = {"DIT_FAILPOINT": "step-4-rank-1-micro-0:oom"}
    done = train_in(2, tmp_path / "run", env=env, **FSDP2, **{"train.timeout": 30.0})
    assert done.codes == [1, 1]
    assert "out of memory with 4 images at a time" in done.said[1]
    assert "process 1 ended with: DitError: out of memory with 4 images" in done.said[0]
    assert load_newest(tmp_path / "run" / "checkpoints").step == 3


def test_other_parts_in_another_process_are_refused(tmp_path):  # T13
    done = train_in(2, tmp_path / "run", env={"OVERRIDES_1": json.dumps({"optim.lr": 0.5})}, **FSDP2)
    assert done.codes == [2, 2]
    assert all("optim.lr: expected 0.01 as in process 0, found 0.5 in process 1" in said for said in done.said)
    assert not (tmp_path / "run").exists()


def test_another_batch_size_is_refused_in_both(dealt):  # T15
    before = {path: sha256(path) for path in dealt.rglob("*.safetensors")}
    done = train_in(2, dealt, "--resume", **{**LONG, "train.batch_size": 16}, **FSDP2)
    assert done.codes == [2, 2]
    assert all("train.batch_size: the run has 8, found 16" in said for said in done.said), done.said
    assert {path: sha256(path) for path in dealt.rglob("*.safetensors")} == before


def test_a_full_disk_of_one_process_keeps_the_older_checkpoint(tmp_path):  # C2
    output = tmp_path / "run"
    done = train_in(2, output, env={"DIT_FAILPOINT": "checkpoint-6:ema-rank-1:enospc"}, **FSDP2)
    assert done.codes == [1, 1]
    assert all("this checkpoint could not be written (No space left on device)" in said for said in done.said)
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step-00000003"]
    damage = next((output / "checkpoints").glob("*/model-00002-of-00002.safetensors"))
    damage.write_bytes(damage.read_bytes()[:-1] + b"?")
    done = train_in(2, output, "--resume", **FSDP2)  # C5: all processes agree, whoever found it
    assert done.codes == [1, 1]
    assert all("none: " in said and "model-00002-of-00002.safetensors: expected SHA-256" in said for said in done.said)


def test_all_processes_fall_back_to_the_same_checkpoint(folder, dealt):  # C4
    output = folder / "damaged"
    shutil.copytree(dealt, output)
    damage = output / "checkpoints" / "step-00000050" / "optimizer-00002-of-00002.safetensors"
    damage.write_bytes(damage.read_bytes()[:-1] + b"?")
    env = {"DIT_FAILPOINT": "checkpoint-50:model-rank-1:kill"}  # C1
    done = train_in(2, output, "--resume", env=env, **LONG, **FSDP2, **{"train.timeout": 30.0})
    assert done.codes == [1, -signal.SIGKILL]
    assert re.search(r"a newer checkpoint was passed over: .*optimizer-00002-of-00002.safetensors: .*SHA", done.said[0])
    assert load_newest(output / "checkpoints").step == 25
    trained_in(2, output, "--resume", **LONG, **FSDP2)
    assert not list(output.rglob(".tmp-*"))
    assert compared(output) == compared(dealt)
    assert_same_tensors(output, dealt)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optim.name": "muon"}, r"train\.shard: fsdp2: expected optim\.name adamw or adam, found muon"),
        ({"process.name": "average_velocity"}, r"train\.shard: fsdp2: expected another process than average_velocity"),
        ({"train.mixed_precision": "fp16"}, r"train\.shard: fsdp2: expected train\.mixed_precision bf16.* found fp16"),
    ],
)
def test_what_can_not_be_done_in_parts_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_recipe(**FSDP2, **overrides)
