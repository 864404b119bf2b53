"""The loop: what it writes, that it resumes bit for bit, and that splitting a batch does not change it."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
import torch

from dit import checkpoint
from dit.errors import ConfigError, Preempted
from dit.files import sha256
from dit.training.loop import run
from tests.training.fakes import make_parts, make_recipe

COMPARED = ("step", "loss", "loss_by_time", "grad_norm", "grad_norm_max", "lr", "images_seen")


def train(output, *, resume=False, num_samples=48, changed=(), **overrides):
    recipe = make_recipe(**overrides)
    return run(recipe, *make_parts(recipe, num_samples), output, resume=resume, changed=changed)


def rows(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def compared(output):
    return [{key: row[key] for key in COMPARED} for row in rows(output)]


def losses(output):
    return [row["loss"] for row in rows(output)]


def weights(output, name="model"):
    return checkpoint.load_newest(output / "checkpoints").tensors(name)


def assert_same_end(one, other):
    """Two runs ended in the same weights, averages and optimizer state, to the last bit."""
    paths = [checkpoint.load_newest(run / "checkpoints").path for run in (one, other)]
    assert paths[0].name == paths[1].name
    names = sorted(path.name for path in paths[0].glob("*.safetensors"))
    assert names == sorted(path.name for path in paths[1].glob("*.safetensors"))
    for name in names:
        # Not the bytes themselves: of those pytest would work out a difference for minutes.
        assert sha256(paths[0] / name) == sha256(paths[1] / name), name


def test_rows_hold_what_was_promised(whole):
    found = rows(whole)
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert [row["images_seen"] for row in found] == [8, 16, 24, 32, 40, 48]
    assert all(row["num_processes"] == 1 and row["images_per_second"] > 0 for row in found)
    assert all(len(row["loss_by_time"]) == 4 for row in found)
    assert [row["lr"] for row in found][:2] == [0.005, 0.01]
    assert all({"start", "train", "data"} <= row["seconds"].keys() for row in found)


def test_status_and_facts(whole):
    status = json.loads((whole / "status.json").read_text())
    assert (status["state"], status["step"]) == ("done", 6)
    facts = json.loads((whole / "run.json").read_text())
    assert facts["id2label"] == {"0": "zero", "1": "one", "2": "two"}
    assert facts["codec"]["class"] == "Fake"
    assert facts["model_arguments"]["num_classes"] == 3
    assert facts["facts"]["draws: law"] == "blocks of 32 rows"
    assert facts["facts"]["draws: kind of device"] == "cpu"
    assert not list(whole.glob(".tmp*"))


@pytest.mark.parametrize("fact", ["draws: law", "draws: kind of device"])
def test_a_run_of_other_draws_is_not_continued(tmp_path, whole, fact):
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    content = json.loads((output / "run.json").read_text())
    content["facts"][fact] = "another"
    (output / "run.json").write_text(json.dumps(content))
    with pytest.raises(
        ConfigError, match=r"found another; finish it|kind of device: the run has 'another', found 'cpu'"
    ):
        train(output, resume=True, **{"train.max_steps": 7})
    assert len(rows(output)) == 6


def test_no_thread_reads_on_after_the_end_or_an_error(tmp_path):
    before = threading.active_count()
    train(tmp_path / "run", **{"train.max_steps": 1})
    assert threading.active_count() == before
    train_until(3, tmp_path / "stopped")
    assert threading.active_count() == before


def test_epochs_become_steps_before_anything_depends_on_them(tmp_path, whole):
    """One pass over 48 images by 8 is 6 steps: schedule, rows and last checkpoint are those of max_steps 6."""
    epochs = {"train.max_steps": None, "train.epochs": 1}
    train(tmp_path / "run", **epochs)
    assert compared(tmp_path / "run") == compared(whole)
    assert (tmp_path / "run" / "recipe.yaml").read_text() == (whole / "recipe.yaml").read_text()
    train(tmp_path / "run", resume=True, **epochs | {"train.epochs": 1.1})  # 6.6 steps
    assert len(rows(tmp_path / "run")) == 7
    with pytest.raises(ConfigError, match=r"max_steps: expected max_steps or epochs, found 6 and 2; set one"):
        make_recipe(**{"train.epochs": 2})


def test_the_loss_goes_down(tmp_path):
    train(tmp_path / "run", **{"train.max_steps": 150, "train.log_every": 15, "train.checkpoint_every": 150})
    first, *_, last = losses(tmp_path / "run")
    assert last < 0.75 * first


def stop_at(patch, step):
    """Let the run die right after the checkpoint of this step."""
    from dit.training.trainer import Trainer

    save = Trainer.save

    def save_and_die(self, folder):
        save(self, folder)
        if self.step == step:
            raise KeyboardInterrupt

    patch.setattr(Trainer, "save", save_and_die)


def train_until(step, output, **overrides):
    """Train until the checkpoint of this step, and die right after it."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            train(output, **overrides)


def test_accumulated_micro_batches_equal_one_batch(tmp_path, whole):
    train(tmp_path / "run", **{"train.gradient_accumulation": 4})
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), rel=1e-5)
    found, expected = rows(tmp_path / "run"), rows(whole)
    assert [row["grad_norm"] for row in found] == pytest.approx([row["grad_norm"] for row in expected], rel=1e-4)


def test_checkpoints_that_are_kept(tmp_path):
    milestones = {"train.max_steps": 9, "train.checkpoint_every": 3, "train.keep_every": 2}
    train(tmp_path / "run", **milestones)
    assert [path.name[-1] for path in sorted((tmp_path / "run" / "checkpoints").iterdir())] == ["2", "4", "6", "8", "9"]
    train(tmp_path / "run", resume=True, **milestones | {"train.max_steps": 12, "train.keep_every": 0})
    left = [path.name[-2:] for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    assert left == ["02", "04", "06", "08", "09", "12"]  # of another run of steps, but to be kept then


METHOD = {"optim.name": "muon", "optim.muon_lr": 2e-2, "optim.weight_decay": 0.1}
METHOD |= {"optim.schedule": "wsd", "optim.decay_steps": 3}


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    """An uninterrupted run with Muon and a stable learning rate before a decay."""
    output = tmp_path_factory.mktemp("method") / "run"
    train(output, **METHOD)
    return output


def test_muon_resumes_to_the_last_bit(method, tmp_path):
    train_until(3, tmp_path / "run", **METHOD)
    train(tmp_path / "run", resume=True, **METHOD)
    assert_same_end(tmp_path / "run", method)
    assert compared(tmp_path / "run") == compared(method)


def test_muon_in_two_processes_equals_one(method, tmp_path):
    done = torchrun(tmp_path / "run", **METHOD, **{"train.gradient_accumulation": 2})
    assert done.returncode == 0, done.stderr
    # Muon may iterate in bfloat16, whose last bit, 0.4%, follows the order in which float32 sums a gradient.
    assert losses(tmp_path / "run") == pytest.approx(losses(method), rel=2e-3)
    assert losses(method) != pytest.approx(losses(method)[:1] * 6, rel=2e-2)  # which is less than what it learns


def test_rows_hold_both_learning_rates(method):
    assert [round(row["lr"], 5) for row in rows(method)] == [0.005, 0.01, 0.01, 0.00423, 0.00184, 0.0]
    assert all(row["muon_lr"] == pytest.approx(2 * row["lr"]) for row in rows(method))


def test_a_resumed_run_changes_what_is_named(tmp_path, whole):
    output, changed = tmp_path / "run", {"optim.lr": 5e-3, "optim.weight_decay": 0.1}
    train_until(3, output)
    with pytest.raises(ConfigError, match=r"optim\.lr: the run has 0\.01, found 0\.005"):
        train(output, resume=True, changed=["optim.weight_decay"], **changed)
    for _ in range(2):  # the second time there is nothing left to do, nor to write down
        train(output, resume=True, changed=changed, **changed)
        content = json.loads((output / "run.json").read_text())
        assert content["changes"] == [
            {"step": 3, "field": "optim.lr", "old": 0.01, "new": 0.005},
            {"step": 3, "field": "optim.weight_decay", "old": 0.0, "new": 0.1},
        ]
        assert content["facts"]["optim.lr"] == 0.005
    assert "lr: 0.005\n" in (output / "recipe.yaml").read_text()
    found, before = rows(output), rows(whole)
    assert [row["lr"] for row in found[:3]] == [row["lr"] for row in before[:3]]
    assert [row["lr"] for row in found[3:]] == pytest.approx([row["lr"] / 2 for row in before[3:]])
    assert losses(output)[:4] == losses(whole)[:4]
    assert losses(output)[4] != losses(whole)[4]
    train(output, resume=True, **changed | {"train.max_steps": 7})  # as any run of this recipe


def test_a_change_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--change optim\.lr: expected a run in .* to be resumed, found none"):
        train(tmp_path / "run", resume=True, changed=["optim.lr"])
    with pytest.raises(
        ConfigError, match=r"--change model\.depth: this field can't change within a run, expected one of"
    ):
        train(tmp_path / "run", resume=True, changed=["model.depth"])


def test_gaussian_process_reports_its_parts(tmp_path):
    gaussian = {"process.name": "gaussian", "model.learn_sigma": True, "sampling.solver": "ddim"}
    train(tmp_path / "run", **gaussian, **{"train.max_steps": 2})
    for row in rows(tmp_path / "run"):
        assert row["loss_mse"] + row["loss_vb"] == pytest.approx(row["loss"], rel=1e-5)


def test_previews_and_validation_enter_the_rows(tmp_path):
    output = tmp_path / "run"
    train(output, **{"train.log_every": 100, "train.validate_every": 2, "train.preview_every": 3})
    found = {row["step"]: row for row in rows(output)}
    assert {step for step, row in found.items() if "val_loss" in row} == {2, 4, 6}
    assert {step: row["preview"] for step, row in found.items() if "preview" in row} == {
        3: "samples/step-00000003.png",
        6: "samples/step-00000006.png",
    }
    assert (output / "samples/step-00000006.png").read_bytes().startswith(b"\x89PNG")
    assert list(found[6]["val_loss_of_average"]) == ["ema"]


def test_tensorboard_gets_the_rows(tmp_path):
    train(tmp_path / "run", **{"train.trackers": ["tensorboard"], "train.max_steps": 2})
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"images_per_second" in events.read_bytes()


def test_occupied_folder_is_refused(tmp_path, whole):  # K8
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(ConfigError, match=r"expected a new or empty folder.*--resume"):
        train(whole)
    assert {path: path.read_bytes() for path in before} == before


def test_resume_starts_where_there_is_nothing(tmp_path, whole):
    train(tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("overrides", "num_samples", "message"),
    [
        ({"train.batch_size": 9, "train.gradient_accumulation": 2}, 48, r"train\.batch_size.*multiple of 2.*found 9"),
        ({}, 7, r"train\.batch_size.*number of training images, 7, found 8"),  # D7
        ({"train.mixed_precision": "fp16"}, 48, r"train\.mixed_precision: fp16 needs a GPU"),
        ({"model.input_size": [2, 4]}, 48, r"latents are \(2, 4, 4\), the network takes \(2, 2, 4\)"),
        ({"model.num_classes": 2}, 48, r"model\.num_classes: expected at least the data's 3, found 2"),
    ],
)
def test_impossible_recipes_are_refused(tmp_path, overrides, num_samples, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", num_samples=num_samples, **overrides)


def test_world_size_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"WORLD_SIZE.*2 processes.*group of 1.*ACCELERATE_USE_CPU"):
        train(tmp_path / "run")


def test_bf16_autocast_trains(tmp_path):
    train(tmp_path / "run", **{"train.mixed_precision": "bf16", "train.max_steps": 2, "train.preview_every": 2})
    assert rows(tmp_path / "run")[-1]["precision"] == "bf16"
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "run").values())


def torchrun(output, *flags, num_processes=2, env=None, timeout=120, **overrides):
    script = os.path.join(os.path.dirname(__file__), "train_fake.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(num_processes)]
    return subprocess.run(
        [*launcher, "--master-port", "0", "--standalone", script, str(output), json.dumps(overrides), *flags],
        env=os.environ
        | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
        | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


ADAPTIVE = {"name": "adaptive", "num_buckets": 4, "decay": 0.5}


def histogram(output):
    return weights(output, "time_law")


def assert_same_histogram(one, other):
    """Sample for sample: at this decay the last loss of a bucket is half of its moment, so that order shows."""
    assert torch.equal(histogram(one)["counts"], histogram(other)["counts"])
    moments = [histogram(output)["second_moments"] for output in (one, other)]
    torch.testing.assert_close(*moments, rtol=1e-5, atol=0.0)


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory):
    """An uninterrupted run in one process whose times follow the losses."""
    output = tmp_path_factory.mktemp("adaptive") / "run"
    train(output, **{"process.time_law": ADAPTIVE, "train.validate_every": 6})
    assert (histogram(output)["counts"] > 0).all()  # the law has left its uniform start
    return output


def test_accumulation_shows_an_adaptive_law_the_same_losses(tmp_path, adaptive):
    train(tmp_path / "run", **{"process.time_law": ADAPTIVE, "train.gradient_accumulation": 4})
    assert_same_histogram(tmp_path / "run", adaptive)


def test_adaptive_run_in_two_one_and_two_processes_equals_one(tmp_path, adaptive):  # T14
    split = {"process.time_law": ADAPTIVE, "train.gradient_accumulation": 2, "train.validate_every": 6}
    output = tmp_path / "run"
    env = {"DIT_FAILPOINT": "step-1-rank-0-micro-0:signal=TERM"}
    assert "stopped by a signal after step 2" in torchrun(output, env=env, **split).stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIT_FAILPOINT", "step-3-rank-0-micro-0:signal=TERM")
        with pytest.raises(Preempted, match="after step 4"):
            train(output, resume=True, **split)
    assert torchrun(output, "--resume", **split).returncode == 0
    assert [row["num_processes"] for row in rows(output)] == [2, 2, 1, 1, 2, 2]
    assert losses(output) == pytest.approx(losses(adaptive), rel=1e-5)
    assert_same_histogram(output, adaptive)
    one, two = rows(adaptive)[-1], rows(output)[-1]
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-5)
    assert two["val_loss_by_time"] == pytest.approx(one["val_loss_by_time"], rel=1e-5)
