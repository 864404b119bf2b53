"""All contenders compute the same figure."""

import pytest

from dit.bench import evaluate


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


@pytest.mark.parametrize("case", ["_precision_recall_adm", "_precision_recall"])
def test_they_agree_on_shares(pair, case):
    """A pair whose distance rounds to the ball's edge may be counted otherwise: one or two of 60."""
    ours, (precision, recall) = (work() for work in getattr(evaluate, case)(pair).values())
    assert 0.2 < recall < 0.98
    assert (precision, recall) == pytest.approx((ours["precision"].value, ours["recall"].value), abs=2.5 / 60)
