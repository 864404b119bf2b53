"""The vector of measures: loss, its parts, loss by time, and whether something is not finite."""

import pytest
import torch

from dit.diffusion.process import Losses
from dit.training.monitor.measures import FIXED, Measures, Pending, by_time, measure


def make_losses(loss, t, **terms):
    loss = torch.tensor(loss)
    terms = {name: torch.tensor(term) for name, term in terms.items()}
    return Losses(loss=loss, t=torch.tensor(t, dtype=torch.float64), unweighted=loss, terms=terms)


def read(vector, terms=(), num_samples=4):
    return Measures(0, num_samples, Pending(vector).read(), terms)


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
    measures = read(measure(whole, 4), ("mse",))
    assert measures.loss == 2.5
    assert measures.values[len(FIXED)] == 4.0
    assert not measures.bad
    assert not measures.stop


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_losses_that_are_not_finite_are_counted(value):
    vector = measure(make_losses([1.0, value, value], [0.1, 0.2, 0.3]), 2)
    assert vector[0] == 2
    assert read(vector).bad


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradient_norm_that_is_not_finite_is_bad(value):
    vector = measure(make_losses([1.0], [0.1]), 2)
    vector[2] = value
    assert read(vector).bad


def test_graph_is_not_kept():
    loss = torch.ones(2, requires_grad=True)
    assert not measure(Losses(loss=loss, t=torch.rand(2), unweighted=loss), 2).requires_grad
