"""Threads that write: how many wait, and whose error comes first."""

import threading

import pytest

from dit.latents.writer import Writer


@pytest.mark.parametrize("num_threads", [1, 3])
def test_no_more_actions_wait_than_there_are_threads(num_threads):
    release, begun = threading.Event(), []
    with Writer(num_threads) as writer:
        for number in range(num_threads):
            writer.start(lambda number=number: begun.append(number) or release.wait(10))
        later = threading.Thread(target=writer.start, args=(lambda: begun.append("later"),))
        later.start()
        later.join(0.05)
        assert later.is_alive()
        release.set()
        later.join(10)
    assert sorted(begun[:num_threads]) == list(range(num_threads))
    assert begun[num_threads:] == ["later"]
    assert not writer.is_busy


def test_errors_come_in_the_order_of_the_actions():
    second_failed = threading.Event()

    def fail_late():
        second_failed.wait(10)
        raise OSError("first")

    def fail():
        second_failed.set()
        raise OSError("second")

    def write():
        with Writer(2) as writer:
            writer.start(fail_late)
            writer.start(fail)

    with pytest.raises(OSError, match="first"):
        write()


def test_an_error_of_the_block_wins_and_waits_for_what_runs():
    ended = []

    def write():
        with Writer() as writer:
            writer.start(lambda: ended.append(True))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert ended == [True]
