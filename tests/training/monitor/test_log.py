"""What rows of metrics are averaged from, and trackers that fail."""

import json

import torch

from dit.training.monitor.log import Trackers, Window
from dit.training.monitor.step_totals import StepMetrics, StepTotals


def make_metrics(loss, norm=1.0, mse=0.5):
    # bad, stops, norm, loss, mse, two sums and two counts by time, for 4 samples
    vector = torch.tensor([0, 0, norm, 4 * loss, 4 * mse, 4 * loss, 0, 4, 0])
    return StepMetrics(0, 4, ("mse",), StepTotals.unpack(vector, 2))


def test_window_averages():
    window = Window()
    window.add(make_metrics(1.0, norm=1.0))
    window.add(make_metrics(3.0, norm=5.0))
    assert window.row(2) == {
        "loss": 2.0,
        "loss_mse": 0.5,
        "loss_by_time": [2.0, None],
        "grad_norm": 3.0,
        "grad_norm_max": 5.0,
    }
    assert window.num_samples == 8


def test_window_survives_json():
    window = Window()
    window.add(make_metrics(0.1 + 0.2))
    state = json.loads(json.dumps(window.state()))
    again = Window(**{**state, "terms": tuple(state["terms"])})
    again.add(make_metrics(0.7))
    window.add(make_metrics(0.7))
    assert again == window


class FailingTracker:
    def log(self, values, step=None):
        raise ConnectionError("unreachable")

    def finish(self):
        raise ConnectionError("unreachable")


def test_unreachable_tracker_is_reported_once(tmp_path, capsys, monkeypatch):  # T17
    monkeypatch.setattr("dit.training.monitor.log._start_tracker", lambda *arguments: FailingTracker())
    trackers = Trackers(["wandb"], tmp_path, first_step=0)
    trackers.log({"step": 1, "loss": 1.0})
    trackers.log({"step": 2, "loss": 1.0})
    trackers.close()
    assert capsys.readouterr().err.count("the tracker wandb failed (unreachable)") == 1


def test_trackers_get_one_name_per_number(tmp_path, monkeypatch):
    seen = {}

    class Remembering:
        def log(self, values, step=None):
            seen.update(values, at=step)

    monkeypatch.setattr("dit.training.monitor.log._start_tracker", lambda *arguments: Remembering())
    row = {"step": 5, "loss": 1.0, "by_time": [0.5, None], "val": {"ema": 2.0}, "preview": "samples/x.png"}
    Trackers(["tensorboard"], tmp_path, first_step=0).log(row)
    assert seen == {"step": 5, "loss": 1.0, "by_time/0": 0.5, "val/ema": 2.0, "at": 5}
