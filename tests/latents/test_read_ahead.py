"""Reading ahead: in order, two batches early, errors at their own batch, and no thread left behind."""

import threading
import time

import numpy as np
import pytest
import torch

from dit.data.request import Request
from dit.errors import DitError
from dit.latents import read_ahead as module
from dit.latents.read_ahead import CACHE_LINE, NUM_AHEAD, NUM_THREADS, read_ahead


class Numbers:
    """Sample i has the moment i, mirrored -i; the one numbered `bad` can't be read, `infinite` is refused."""

    moments_shape, storage = (1, 1, 1), torch.bfloat16

    def __init__(self, bad=None, infinite=None):
        self.bad, self.infinite = bad, infinite

    def fill(self, moments, labels, indices, flips):
        if self.bad in indices:
            raise DitError(f"{self.bad} is bad")
        labels.copy_(torch.from_numpy(indices % 7))
        moments.copy_(torch.from_numpy(np.where(flips, -indices, indices)).view(-1, 1, 1, 1))

    def check(self, moments, indices):
        assert len(moments) == len(indices)
        if self.infinite in indices:
            raise DitError(f"{self.infinite} is infinite")


def requests(sizes, taken=None):
    start = 0
    for size in sizes:
        if taken is not None:
            taken.append(size)
        indices = np.arange(start, start + size)
        yield Request(indices, indices % 2 == 1)
        start += size


@pytest.mark.parametrize("slow", [-1.0, 1e-4, 1e9])
def test_batches_come_in_order_whatever_pieces_they_are_read_in(monkeypatch, slow):
    monkeypatch.setattr(module, "SLOW", slow)
    sizes = [1, 2 * NUM_THREADS + 3, NUM_THREADS, 5, 5, 0]
    found = list(read_ahead(Numbers(), requests(sizes)))
    for rows, request in zip(found, requests(sizes), strict=True):
        assert (rows.request.indices == request.indices).all()
        expected = np.where(request.flips, -request.indices, request.indices)
        assert torch.equal(rows.moments.flatten(), torch.from_numpy(expected).bfloat16())
        assert rows.labels.tolist() == (request.indices % 7).tolist()


@pytest.mark.parametrize("slow", [-1.0, 1e9])
def test_moments_begin_where_a_cache_line_does(monkeypatch, slow):
    monkeypatch.setattr(module, "SLOW", slow)
    found = list(read_ahead(Numbers(), requests([1, 3, 300, 5])))
    assert [rows.moments.data_ptr() % CACHE_LINE for rows in found] == [0] * len(found)


def test_one_thread_reads_in_turn_and_several_once_reads_are_slow(monkeypatch):
    together, lock, most = set(), threading.Lock(), []

    class Watched(Numbers):
        def fill(self, moments, labels, indices, flips):
            with lock:
                together.add(threading.get_ident())
            time.sleep(0.01)
            with lock:
                most.append(len(together))
                together.discard(threading.get_ident())

    for slow, expected in ((1e9, 1), (1e-6, NUM_THREADS)):
        monkeypatch.setattr(module, "SLOW", slow)
        most.clear()
        for _ in read_ahead(Watched(), requests([NUM_THREADS] * 8)):
            pass
        assert (max(most) > 1) == (expected > 1)
        assert len(most) == 8 if expected == 1 else len(most) > 8


def test_a_batch_is_checked_while_the_next_one_is_read():
    reading, checking = threading.Event(), threading.Event()

    class Watched(Numbers):
        def fill(self, moments, labels, indices, flips):
            if 4 in indices:
                reading.set()
                assert checking.wait(60)

        def check(self, moments, indices):
            if 0 in indices:
                checking.set()
                assert reading.wait(60)

    assert len(list(read_ahead(Watched(), requests([4] * 2)))) == 2


def test_two_batches_are_begun_before_they_are_asked_for():
    taken = []
    reading = read_ahead(Numbers(), requests([4] * 10, taken))
    for number in range(1, 6):
        next(reading)
        assert len(taken) == number + NUM_AHEAD
    reading.close()


@pytest.mark.parametrize("slow", [-1.0, 1e9])
@pytest.mark.parametrize(("numbers", "problem"), [(Numbers(bad=9), "9 is bad"), (Numbers(infinite=9), "9 is infinite")])
def test_an_error_comes_with_the_batch_that_has_it(monkeypatch, slow, numbers, problem):
    monkeypatch.setattr(module, "SLOW", slow)
    before = threading.active_count()
    reading = read_ahead(numbers, requests([4] * 10))
    assert [len(next(reading).labels) for _ in range(2)] == [4, 4]
    with pytest.raises(DitError, match=problem):
        next(reading)
    assert threading.active_count() == before


def test_closing_waits_for_what_is_begun_and_drops_the_rest():
    begun, go = threading.Event(), threading.Event()

    class Slow(Numbers):
        def fill(self, moments, labels, indices, flips):
            if indices[0]:
                begun.set()
                go.wait(60)

    before = threading.active_count()
    reading = read_ahead(Slow(), requests([1, 2000, 2000]))
    next(reading)
    assert begun.wait(60)
    threading.Timer(0.1, go.set).start()
    reading.close()
    assert go.is_set()
    assert threading.active_count() <= before + 1  # the timer may be at its end
