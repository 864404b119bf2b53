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


def test_a_gpu_is_waited_for_on_both_sides_of_the_clock_and_tells_its_memory(clock, monkeypatch):
    ran, most = [], iter([7e6, 9e6])
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: ran.append("wait"))
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5e6)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(most))
    monkeypatch.setattr(harness, "peak_of", lambda device: 1e12)
    contenders = {name: contender(clock, name, [2.0], ran) for name in ("dit", "other")}
    settings = Settings(torch.device("cuda"), rounds=1, budget=1000)
    (row,) = race("b", "c", contenders, settings, operations=5e11)
    assert ran == [turn for name in ("dit", "other") * 2 for turn in ("wait", name, "wait")]
    assert row.memory == (2.0, 4.0)
    assert row.share == 0.25  # 5e11 operations in 2 s, of 1e12 a second


def test_float32_peers_multiply_in_tf32_on_a_gpu_too(monkeypatch):
    found = []

    class NotedError(Exception):
        pass

    def build():
        found.append(torch.get_float32_matmul_precision())
        raise NotedError

    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(harness, "_begin_memory", lambda device: None)
    with pytest.raises(NotedError):
        next(race("b", "c", {"dit": build}, Settings(torch.device("cuda"))))
    assert found == ["high"]
    assert torch.get_float32_matmul_precision() == before


def test_the_peak_is_that_of_square_products(monkeypatch):
    monkeypatch.setitem(harness.PEAK_SIZES, "cpu", 100)
    seconds = iter([9.0, 4.0, 2.0, 4.0, 4.0, 4.0])
    monkeypatch.setattr(harness, "_seconds_of_product", lambda a, b: next(seconds))
    harness.peak_of.cache_clear()
    assert harness.peak_of(CPU) == 1e6
    harness.peak_of.cache_clear()
