"""The harness on work of known duration; no timing of real work is a test."""

import os
import statistics

import pytest

from dit.bench import harness
from dit.bench.harness import Race, quartiles, race
from dit.bench.programs import cost_after_imports


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the contenders move."""
    now = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])
    return now


def test_contenders_take_turns_and_warm_up_apart(clock):
    ran = []

    def work(name, seconds):
        def run():
            clock[0] += 100 if name not in ran else seconds
            ran.append(name)

        return run

    result = race({"a": work("a", 1.0), "b": work("b", 3.0)}, rounds=3, warmups=1, say=lambda text: None)
    assert ran == ["a", "a", "b", "b", "a", "b", "b", "a", "a", "b"]
    assert result.first == {"a": 100.0, "b": 100.0}
    assert result.seconds == {"a": [1.0] * 3, "b": [3.0] * 3}


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    """Not the ratio of the medians: a machine that slows down does so for both sides of a round."""
    seconds = {"ours": [1.0, 10.0, 2.0], "theirs": [2.0, 30.0, 8.0]}
    (row,) = Race(seconds, {}).rows("b", "c", ours="ours", limit=1.0)
    assert (row.ratio, row.low, row.high) == (3.0, 2.5, 3.5)
    assert row.percent_of_limit == 50.0
    assert (row.ours, row.theirs, row.unit) == (2000.0, 8000.0, "ms")
    assert statistics.median(seconds["theirs"]) / statistics.median(seconds["ours"]) == 4.0


def test_one_round_has_no_spread():
    assert quartiles([2.0]) == (2.0, 2.0, 2.0)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from Linux's /proc")
def test_a_programs_memory_is_its_own_and_without_its_imports():
    ballast = bytearray(2**28)  # this process's own peak must not count
    cost = cost_after_imports("import json", "block = bytes(2**26).replace(bytes(1), bytes([1]))")
    assert 2**26 <= cost.bytes < 2**28 <= len(ballast)
