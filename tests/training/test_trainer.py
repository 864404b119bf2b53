"""A checkpoint holds all that the rest of a run depends on: leaving out any item is noticed; bad ones are refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from dit import checkpoint
from dit.errors import ConfigError, DitError
from dit.training.loop import run
from dit.training.trainer import Trainer
from tests.training.fakes import make_parts, make_recipe
from tests.training.test_loop import assert_same_end, compared, train, train_until

ADAPTIVE = {"process.time_law": {"name": "adaptive", "num_buckets": 4}, "train.log_every": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    train(output, **ADAPTIVE)
    return output


@pytest.fixture
def stopped(tmp_path):
    """A run that died right after the checkpoint of step 3 of 6."""
    train_until(3, tmp_path / "run", **ADAPTIVE)
    return tmp_path / "run"


def differs(one, other):
    try:
        assert compared(one) == compared(other)
        assert_same_end(one, other)
    except AssertionError:
        return True
    return False


def test_nothing_left_out(whole, stopped):
    train(stopped, resume=True, **ADAPTIVE)
    assert not differs(stopped, whole)


FORGOTTEN = {  # file and the beginning of the names of its tensors that are lost
    "average": ("ema", ""),
    "first moment": ("optimizer", "exp_avg."),
    "second moment": ("optimizer", "exp_avg_sq."),
    "optimizer's step": ("optimizer", "step."),
    "histogram": ("time_law", ""),
    "weights": ("model", ""),
}
ENTRIES = {
    "step": 2,
    "window": {"num_steps": 0, "num_samples": 0, "sums": [], "max_grad_norm": 0.0, "terms": [], "began": 0.0},
}


@pytest.mark.parametrize("item", [*FORGOTTEN, *ENTRIES])
def test_negative_control(whole, stopped, item, monkeypatch):
    """The comparison of runs notices every single item that a checkpoint might have lost."""
    restore = Trainer.restore

    def restore_without(self, saved):
        file, start = FORGOTTEN.get(item, ("", ""))
        state = saved.state | {key: value for key, value in ENTRIES.items() if key == item}

        class Forgetful(checkpoint.Checkpoint):
            def tensors(self, name):
                tensors = super().tensors(name)
                lost = [key for key in tensors if name == file and key.startswith(start)]
                return tensors | {key: tensors[key] + 1e-7 if name == "model" else 0 * tensors[key] for key in lost}

        restore(self, Forgetful(saved.path, saved.step, state))

    monkeypatch.setattr(Trainer, "restore", restore_without)
    train(stopped, resume=True, **ADAPTIVE)
    assert differs(stopped, whole)


def test_negative_control_of_the_seed(whole, stopped, monkeypatch):
    monkeypatch.setattr("dit.training.setup.check_same_run", lambda *arguments, **options: None)
    train(stopped, resume=True, **ADAPTIVE, **{"train.seed": 1})
    assert differs(stopped, whole)


def test_changed_recipe_is_refused_and_nothing_is_touched(stopped):  # T15
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(ConfigError, match=r"optim\.lr: the run has 0\.01, found 0\.5"):
        train(stopped, resume=True, **ADAPTIVE, **{"optim.lr": 0.5})
    assert {path: path.read_bytes() for path in before} == before


def test_changed_data_are_refused(stopped):  # T15
    with pytest.raises(ConfigError, match=r"data: fingerprint.*data: number of images: the run has 48, found 60"):
        train(stopped, resume=True, num_samples=60, **ADAPTIVE)


def replace(run_folder, change):
    """Change the newest checkpoint and its manifest, as a foreign writer might have."""
    newest = checkpoint.load_newest(run_folder / "checkpoints")
    tensors = {file.stem: load_file(file) for file in newest.path.glob("*.safetensors")}
    change(tensors, newest.state)
    shutil.rmtree(newest.path)
    checkpoint.save(newest.path.parent, 3, tensors, newest.state)


BIAS = "x_embedder.proj.bias"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model", {BIAS: torch.zeros(5)}, r"another shape: x_embedder\.proj\.bias \(expected \[24\], found \[5\]\)"),
        ("model", {BIAS: None}, r"1 tensors are missing: x_embedder\.proj\.bias"),
        ("model", {"extra": torch.zeros(1)}, "1 tensors are unexpected: extra"),
        ("time_law", {"counts": torch.zeros(5)}, r"another shape: counts \(expected \[4\], found \[5\]\)"),
        ("time_law", {"counts": None}, "1 tensors are missing: counts"),
        ("optimizer", {"m.nothing": torch.ones(1)}, r"holds m\.nothing"),
    ],
)
def test_checkpoint_that_does_not_fit_is_refused(stopped, file, change, message):  # C7
    def put(tensors, _):
        tensors[file] = {key: value for key, value in (tensors[file] | change).items() if value is not None}

    replace(stopped, put)
    with pytest.raises(DitError, match=rf"{file}\.safetensors: .*{message}"):
        train(stopped, resume=True, **ADAPTIVE)


def test_checkpoint_without_an_entry_is_refused(stopped):  # C6
    replace(stopped, lambda _, state: state.pop("window"))
    with pytest.raises(DitError, match=r"state\.json: expected the entry 'window'"):
        train(stopped, resume=True, **ADAPTIVE)


def test_checkpoint_without_average_is_refused_unless_asked_for(stopped, capsys):  # C12
    replace(stopped, lambda tensors, _: tensors.pop("ema"))
    with pytest.raises(DitError, match=r"no ema\.safetensors; set ema\.restart"):
        train(stopped, resume=True, **ADAPTIVE)
    train(stopped, resume=True, **ADAPTIVE, **{"ema.restart": True})
    assert "holds no average 'ema'" in capsys.readouterr().err
    assert checkpoint.load_newest(stopped / "checkpoints").step == 6


def test_damaged_newest_checkpoint_falls_back_to_the_older(tmp_path, whole, capsys):  # C3, T1
    output = tmp_path / "run"
    train(output, **ADAPTIVE)
    newest = output / "checkpoints" / "step-00000006" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])
    train(output, resume=True, **ADAPTIVE)
    assert "a newer checkpoint was passed over" in capsys.readouterr().err
    assert not differs(output, whole)


def test_longer_run_continues_a_finished_one(tmp_path):
    constant = {"optim.schedule": "constant"}
    train(tmp_path / "long", **constant, **{"train.max_steps": 9})
    train(tmp_path / "run", **constant)
    train(tmp_path / "run", resume=True, **constant, **{"train.max_steps": 9})
    assert not differs(tmp_path / "run", tmp_path / "long")


@pytest.mark.parametrize("max_steps", [3, 6])
def test_deleted_checkpoints_are_missed(tmp_path, max_steps):
    """Also of a finished run with one checkpoint; nothing is touched, so that they can be put back."""
    length, output = {"train.max_steps": max_steps}, tmp_path / "run"
    train(output, **length)
    (output / "checkpoints").rename(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.name != "lock"}
    for _ in range(2):
        with pytest.raises(ConfigError, match=rf"checkpoints: expected a checkpoint of the run's {max_steps} steps"):
            train(output, resume=True, **length)
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "elsewhere").rename(output / "checkpoints")
    assert train(output, resume=True, **length).step == max_steps


def test_a_run_that_died_before_its_first_checkpoint_says_that_it_begins_again(tmp_path, whole, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", **ADAPTIVE)
    train(tmp_path / "run", resume=True, **ADAPTIVE)
    assert "the run has no checkpoint yet: its steps up to 2 are made again" in capsys.readouterr().err
    assert not differs(tmp_path / "run", whole)


def test_several_averages_and_snapshots_are_saved(tmp_path):
    several = {
        "ema.further_decays": [0.5],
        "ema.sigma_rels": [0.05, 0.1],
        "ema.snapshot_every": 2,
        "train.validate_every": 6,
    }
    train(tmp_path / "run", **several)
    newest = checkpoint.load_newest(tmp_path / "run" / "checkpoints").path
    names = {path.stem for path in newest.glob("*.safetensors")}
    assert names == {"model", "optimizer", "ema", "ema-0.5", "power-0.05", "power-0.1"}
    snapshots = sorted((tmp_path / "run" / "snapshots").iterdir())
    assert [path.name for path in snapshots] == ["step-00000002", "step-00000004", "step-00000006"]
    snapshot = load_file(snapshots[-1] / "power-0.05.safetensors")
    kept = load_file(newest / "power-0.05.safetensors")
    for name, value in snapshot.items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(value.float(), kept[name], rtol=1e-3, atol=1e-5)


def test_run_takes_no_more_than_it_is_given(tmp_path):
    recipe = make_recipe(**{"train.max_steps": 1})
    model, process, codec, train_set, _ = make_parts(recipe)
    for val_set in (None, []):
        run(recipe, model, process, codec, train_set, val_set, tmp_path / str(val_set))
        (line,) = (tmp_path / str(val_set) / "metrics.jsonl").read_text().splitlines()
        row = json.loads(line)
        assert row["step"] == 1
        assert "val_loss" not in row
