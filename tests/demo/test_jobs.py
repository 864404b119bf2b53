"""One job at a time, in order; stopped, failed or forgotten, the line goes on."""

import threading
import time

import pytest

from dit.demo.jobs import MAX_WAITING, Job, Jobs, Stopped
from dit.errors import DitError

PATIENCE = 20.0


def ends(job: Job) -> str:
    deadline = time.perf_counter() + PATIENCE
    while not job.is_over and time.perf_counter() < deadline:
        time.sleep(0.005)
    return job.state


def until_stopped(job: Job) -> None:
    while True:
        job.check()
        time.sleep(0.002)


def test_jobs_come_one_after_the_other_in_their_order():
    jobs, running, most, order = Jobs(), [], [], []

    def work(job: Job) -> str:
        running.append(job.owner)
        most.append(len(running))
        order.append(job.owner)
        time.sleep(0.01)
        running.remove(job.owner)
        return job.owner

    submitted = [jobs.submit(str(i), work) for i in range(5)]
    assert [ends(job) for job in submitted] == ["done"] * 5
    assert [job.result for job in submitted] == order == list("01234")
    assert max(most) == 1


def test_a_job_says_how_far_it_is():
    begun, go = threading.Event(), threading.Event()

    def work(job: Job) -> None:
        job.say("Sampling", total=4)
        job.step("first look")
        time.sleep(0.02)
        job.step()
        begun.set()
        go.wait(PATIENCE)

    job = Jobs().submit("a", work)
    assert begun.wait(PATIENCE)
    assert (job.doing, job.done, job.total, job.preview) == ("Sampling", 2, 4, "first look")
    left = job.seconds_left
    assert left is not None
    assert left >= 0.04  # two steps at the pace of the one after the first
    go.set()
    assert ends(job) == "done"


def test_two_who_stop_at_once_stop_their_own_jobs():
    jobs = Jobs()
    first, second = jobs.submit("a", until_stopped), jobs.submit("b", until_stopped)
    third = jobs.submit("c", lambda _: "made")
    both = threading.Barrier(2)

    def stop(owner: str) -> None:
        both.wait()
        for _ in range(3):
            jobs.stop(owner)

    threads = [threading.Thread(target=stop, args=(owner,)) for owner in "ab"]
    for thread in threads:
        thread.start()
    assert [ends(first), ends(second), ends(third)] == ["stopped", "stopped", "done"]


def test_a_new_job_stops_the_one_before_of_its_owner():
    jobs = Jobs()
    first = jobs.submit("a", until_stopped)
    second = jobs.submit("a", lambda _: 2)
    assert (ends(first), ends(second), second.result) == ("stopped", "done", 2)


def test_places_in_the_line_and_its_end():
    jobs = Jobs()
    running = jobs.submit("0", until_stopped)
    waiting = [jobs.submit(str(i), lambda _: None) for i in range(1, MAX_WAITING + 1)]
    assert [jobs.num_before(job) for job in (running, *waiting[:2])] == [0, 1, 2]
    with pytest.raises(DitError, match="are waiting for this machine; try again"):
        jobs.submit("late", lambda _: None)
    jobs.stop("0")
    assert ends(waiting[-1]) == "done"
    assert ends(jobs.submit("late", lambda _: None)) == "done"


@pytest.mark.parametrize("error", [DitError("damaged"), RuntimeError("odd"), SystemExit(3), MemoryError()])
def test_the_line_goes_on_after_an_error(error, capsys):
    jobs = Jobs()

    def fail(_: Job) -> None:
        raise error

    failed, next_one = jobs.submit("a", fail), jobs.submit("b", lambda _: "made")
    assert (ends(failed), failed.error, ends(next_one)) == ("failed", error, "done")
    assert ("Traceback" in capsys.readouterr().err) == (not isinstance(error, DitError))  # for who runs the server


def test_a_waiting_job_that_is_stopped_is_over_at_once_and_never_begins():
    jobs, began = Jobs(), []
    first = jobs.submit("a", until_stopped)
    second, third = jobs.submit("b", began.append), jobs.submit("c", began.append)
    jobs.stop("b")
    jobs.leave(third)
    assert (first.is_over, second.state, third.state) == (False, "stopped", "stopped")
    jobs.stop("a")
    assert (ends(first), ends(jobs.submit("d", lambda _: None)), began) == ("stopped", "done", [])
    with pytest.raises(Stopped):
        second.step()
