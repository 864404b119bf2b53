"""The harness on work of known duration; no timing of real work is a test."""

import pytest
import torch

from dit.bench import harness
from dit.bench.harness import quartiles, race
from dit.bench.settings import Settings

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the contenders move."""
    now = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])
    return now


def contender(clock, name, seconds, ran, first=100.0):
    """Return what builds work that takes these seconds, in turn, and longer at its first call."""
    times = iter([first, *seconds])

    def run():
        ran.append(name)
        clock[0] += next(times)

    return lambda: run


def test_contenders_take_turns_and_a_ratio_is_the_median_of_the_rounds_ratios(clock):
    """Not the ratio of the medians: a machine that slows down does so for both sides of a round."""
    ran = []
    contenders = {
        "dit": contender(clock, "dit", [1.0, 10.0, 2.0], ran),
        "other": contender(clock, "other", [2.0, 30.0, 8.0], ran),
    }
    (row,) = race("b", "c", contenders, Settings(CPU, rounds=3, budget=1000), scale={"other": 10})
    assert ran == ["dit", "other", "dit", "other", "other", "dit", "dit", "other"]
    assert (row.peer, row.ratio, row.low, row.high, row.rounds) == ("other", 30.0, 25.0, 35.0, 3)
    assert (row.ours, row.theirs) == (2000.0, 80000.0)


@pytest.mark.parametrize(
    ("budget", "rounds", "peers"),
    [
        (1000, 9, ["a", "b"]),
        (43, 2, ["a", "b"]),  # 12 of first calls and 15 a round: the third would end at 57, and is not begun
        (8, 1, ["a"]),  # no time for the third contender; one round is always run
        (4, 0, []),
    ],
)
def test_nothing_is_begun_that_the_budget_has_no_time_for(clock, capsys, budget, rounds, peers):
    contenders = {name: contender(clock, name, [5.0] * 9, [], first=4.0) for name in ("dit", "a", "b")}
    rows = list(race("b", "c", contenders, Settings(CPU, rounds=9, budget=budget)))
    assert [(row.peer, row.rounds) for row in rows] == [(peer, rounds) for peer in peers]
    told = capsys.readouterr().err
    assert told.count(f"skipped, the budget of {budget} s is spent") == 2 - len(peers)


def test_one_round_has_no_spread():
    assert quartiles([2.0]) == (2.0, 2.0, 2.0)
