"""What trackers receive: numbers, previews and the recipe; and trackers that fail."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dit.config import load_recipe
from dit.training.monitor import trackers as module
from dit.training.monitor.trackers import Trackers

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run" / "samples").mkdir(parents=True)
    Image.fromarray(PIXELS).save(tmp_path / "run" / "samples" / "x.png")
    return tmp_path / "run"


@pytest.fixture
def recipe():
    return load_recipe("dit_ti_2_mnist")


class FailingTracker:
    def log(self, values, step=None):
        raise ConnectionError("unreachable")

    def finish(self):
        raise ConnectionError("unreachable")


def test_unreachable_tracker_is_reported_once(tmp_path, recipe, capsys, monkeypatch):  # T17
    monkeypatch.setattr(module, "_start", lambda *arguments: FailingTracker())
    trackers = Trackers(["wandb"], tmp_path, recipe, first_step=0)
    trackers.log({"step": 1, "loss": 1.0})
    trackers.log({"step": 2, "loss": 1.0})
    trackers.close()
    assert capsys.readouterr().err.count("the tracker wandb failed (unreachable)") == 1


def test_trackers_get_one_name_per_number(folder, recipe, monkeypatch):
    seen, shown = {}, []

    class Remembering:
        def log(self, values, step=None):
            seen.update(values, at=step)

    monkeypatch.setattr(module, "_start", lambda *arguments: Remembering())
    monkeypatch.setattr(module, "_show", lambda tracker, path, step: shown.append((path, step)))
    row = {"step": 5, "loss": 1.0, "by_time": [0.5, None], "val": {"ema": 2.0}, "preview": "samples/x.png"}
    Trackers(["tensorboard"], folder, recipe, first_step=0).log(row)
    assert seen == {"step": 5, "loss": 1.0, "by_time/0": 0.5, "val/ema": 2.0, "at": 5}
    assert shown == [(folder / "samples" / "x.png", 5)]


def test_tensorboard_has_numbers_pictures_and_the_recipe(folder, recipe):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = Trackers(["tensorboard"], folder, recipe, first_step=0)
    trackers.log({"step": 5, "loss": 0.5, "preview": "samples/x.png"})
    trackers.close()
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(5, 0.5)]
    (shown,) = events.Images("preview")
    assert (shown.step, shown.width, shown.height) == (5, 6, 4)
    (text,) = events.Tensors("recipe/text_summary")
    assert b"name: dit_ti_2" in text.tensor_proto.string_val[0]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_other_trackers_take_the_same_without_a_network(name, folder):
    """In a process of their own, for they start services and threads that are not ours."""
    pytest.importorskip(name)
    code = (
        "from pathlib import Path; from accelerate import PartialState; from dit.config import load_recipe\n"
        "from dit.training.monitor.trackers import Trackers\n"
        f"PartialState(); trackers = Trackers([{name!r}], Path('run'), load_recipe('dit_ti_2_mnist'), first_step=0)\n"
        "trackers.log({'step': 5, 'loss': 0.5, 'preview': 'samples/x.png'}); trackers.close()"
    )
    settings = {"WANDB_MODE": "offline", "TRACKIO_DIR": "trackio", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder.parent,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, "the tracker" in done.stderr) == (0, False), done.stderr
    (kept,) = [path for path in folder.parent.rglob("*.png") if path != folder / "samples" / "x.png"]
    assert (np.asarray(Image.open(kept).convert("RGB")) == PIXELS).all()
    recorded = next(Path(folder.parent).rglob("*.wandb" if name == "wandb" else "*.db")).read_bytes()
    assert b"dit_ti_2" in recorded
    assert b"loss" in recorded
