"""All contenders compute the same figure."""

import resource

import pytest
import torch

from dit.bench import evaluate, from_disk
from dit.bench.settings import Settings


def value(found):
    """The one number of a figure, whatever it comes in."""
    if isinstance(found, dict):
        found = next(iter(found.values()))
    return found.value if hasattr(found, "value") else found


@pytest.fixture
def pair(monkeypatch):
    monkeypatch.setattr(evaluate, "WIDTH", 16)
    return evaluate._features(200, 0), evaluate._features(60, 1)


@pytest.mark.parametrize("case", ["_fid", "_inception_score"])
def test_they_agree(pair, case):
    ours, *others = (value(work()) for work in getattr(evaluate, case)(pair).values())
    assert others == pytest.approx([ours] * len(others), rel=1e-6)


def test_figures_from_disk_are_timed_beside_the_originals_with_the_memory_that_they_took(monkeypatch):
    """In this process, whose peak is known, with features of few columns; the metrics' own tests say what they are."""
    monkeypatch.setattr(from_disk, "WIDTHS", {"pool": 16, "spatial": 12, "logits": 8})
    monkeypatch.setattr(from_disk, "PART", 70)
    monkeypatch.setattr(from_disk, "alone", lambda work, folders: (work(*folders), from_disk.peak_megabytes()))
    found = list(from_disk.measure(200, Settings(torch.device("cpu"))))
    assert [(row.case.partition(" from disk, 200 against 40")[:2], row.unit) for row in found] == [
        ((name, " from disk, 200 against 40"), unit)
        for name, unit in [
            ("precision and recall", "ms"), ("fid", "ms"), ("sfid", "ms"), ("inception_score", "ms"),
            ("memory of all", "MB"),
        ]
    ]  # fmt: skip
    assert all(row.ours > 0 < row.theirs for row in found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert found[-1].theirs == pytest.approx(peak, rel=0.01)  # measured last; the kernel counts pages in batches


@pytest.mark.parametrize("case", ["_precision_recall_adm", "_precision_recall"])
def test_they_agree_on_shares(pair, case):
    """A pair whose distance rounds to the ball's edge may be counted otherwise: one or two of 60."""
    ours, (precision, recall) = (work() for work in getattr(evaluate, case)(pair).values())
    assert 0.2 < recall < 0.98
    assert (precision, recall) == pytest.approx((ours["precision"].value, ours["recall"].value), abs=2.5 / 60)
