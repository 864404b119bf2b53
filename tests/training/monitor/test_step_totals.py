"""The vector of a step: loss, its parts, loss by time, and whether something is not finite."""

import torch

from dit.device import Pending
from dit.diffusion.process import Losses
from dit.training.monitor.step_totals import StepMetrics, StepTotals, by_time


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
