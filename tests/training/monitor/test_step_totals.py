"""The vector of a step: loss, its parts, loss by time, and whether something is not finite."""

import pytest
import torch

from dit.diffusion.process import Losses
from dit.training.monitor.step_totals import Pending, StepMetrics, StepTotals, by_time


def make_losses(loss, t, **terms):
    loss = torch.tensor(loss)
    terms = {name: torch.tensor(term) for name, term in terms.items()}
    return Losses(loss=loss, t=torch.tensor(t, dtype=torch.float64), unweighted=loss, terms=terms)


def measure(losses, num_buckets):
    return StepTotals.of_micro_batch(losses, num_buckets).pack()


def read(vector, num_buckets, terms=(), num_samples=4):
    return StepMetrics(0, num_samples, terms, StepTotals.unpack(Pending(vector).read(), num_buckets))


def test_losses_fall_into_their_time_bucket():
    sums, counts = by_time(make_losses([1.0, 2.0, 4.0, 8.0], [0.0, 0.49, 0.5, 1.0]), 2)
    assert sums.tolist() == [3.0, 12.0]
    assert counts.tolist() == [2.0, 2.0]


def test_vector_adds_up_over_micro_batches():
    whole = make_losses([1.0, 2.0, 3.0, 4.0], [0.1, 0.3, 0.6, 0.9], mse=[1.0, 1.0, 1.0, 1.0])
    parts = [
        make_losses([1.0, 2.0], [0.1, 0.3], mse=[1.0, 1.0]),
        make_losses([3.0, 4.0], [0.6, 0.9], mse=[1.0, 1.0]),
    ]
    assert torch.equal(measure(whole, 4), measure(parts[0], 4) + measure(parts[1], 4))
    metrics = read(measure(whole, 4), 4, ("mse",))
    assert metrics.loss == 2.5
    assert metrics.totals.terms.tolist() == [4.0]
    assert not metrics.is_bad
    assert not metrics.is_stop


def test_entries_come_out_where_they_went_in_and_fill_the_vector():
    vector = torch.arange(9.0)
    totals = StepTotals.unpack(vector, 2)
    named = {name: value.tolist() for name, value in vars(totals).items()}
    assert named == {
        "num_bad": 0.0,
        "num_stops": 1.0,
        "grad_norm": 2.0,
        "loss": 3.0,
        "terms": [4.0],
        "loss_by_time": [5.0, 6.0],
        "count_by_time": [7.0, 8.0],
    }
    assert torch.equal(totals.pack(), vector)
    totals.num_stops.fill_(9.0)
    assert vector[1] == 9.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_losses_that_are_not_finite_are_counted(value):
    metrics = read(measure(make_losses([1.0, value, value], [0.1, 0.2, 0.3]), 2), 2)
    assert metrics.totals.num_bad == 2
    assert metrics.is_bad


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradient_norm_that_is_not_finite_is_bad(value):
    vector = measure(make_losses([1.0], [0.1]), 2)
    StepTotals.unpack(vector, 2).grad_norm.fill_(value)
    assert read(vector, 2).is_bad


def test_graph_is_not_kept():
    loss = torch.ones(2, requires_grad=True)
    assert not measure(Losses(loss=loss, t=torch.rand(2), unweighted=loss), 2).requires_grad
