"""What rows of metrics are averaged from."""

import json

import torch

from dit.training.monitor.log import Window
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
