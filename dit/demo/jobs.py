"""One job at a time on the device, in the order in which they came, each of which can be stopped at any moment.

A job's work looks at `check` wherever it may stop; whoever asked for it looks at the job's fields from another thread.
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Literal

from dit.errors import DitError

MAX_WAITING = 8
"""Most jobs that wait; another one is refused."""


class Stopped(Exception):  # noqa: N818 - a stop that was asked for, not an error
    """The job was stopped by its owner."""


class Job:
    """Something that somebody waits for.

    Args:
        owner: whose it is; a new job of the same owner stops the one before.
        work: what is to be done; its result is the job's.
    """

    def __init__(self, owner: str, work: "Callable[[Job], Any]") -> None:
        self.owner, self._work = owner, work
        self.state: Literal["waiting", "running", "done", "failed", "stopped"] = "waiting"
        self.doing, self.done, self.total = "", 0, 0
        self.preview: Any = None
        """The newest look at what is being made."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.began = 0.0
        self._first_step = 0.0
        self._stop, self.changed = threading.Event(), threading.Event()

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "failed", "stopped")

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step at the pace so far; None before the second step."""
        if not 1 < self.done <= self.total:
            return None
        return (time.perf_counter() - self._first_step) / (self.done - 1) * (self.total - self.done)

    def stop(self) -> None:
        """Stop it, whether it waits or runs; again does no harm."""
        self._stop.set()

    def check(self) -> None:
        """Raise `Stopped` where somebody stopped the job."""
        if self._stop.is_set():
            raise Stopped

    def say(self, doing: str, total: int = 0) -> None:
        """Tell what is being done now, in how many steps."""
        self.check()
        self.doing, self.done, self.total = doing, 0, total
        self.changed.set()

    def step(self, preview: Any = None) -> None:
        """Count a step, and show what there is by now."""
        self.check()
        self.done += 1
        if self.done == 1:
            self._first_step = time.perf_counter()
        self.preview = self.preview if preview is None else preview
        self.changed.set()

    def run(self) -> None:
        """Do the work; whatever happens in it is kept, for the thread that does the work lives on."""
        try:
            self.check()
            self.state, self.began = "running", time.perf_counter()
            self.result = self._work(self)
            self.state = "done"
        except Stopped:
            self.state = "stopped"
        except BaseException as error:
            if not isinstance(error, DitError):
                traceback.print_exc(file=sys.stderr)
            self.error, self.state = error, "failed"
        self.changed.set()


class Jobs:
    """The jobs of one device, and the thread that does them."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []  # those that are not over, the running one first
        self._there = threading.Condition()  # reentrant
        threading.Thread(target=self._run, daemon=True, name="dit demo jobs").start()

    def submit(self, owner: str, work: Callable[[Job], Any]) -> Job:
        """Add a job to the line; what its owner asked for before is stopped.

        Raises:
            DitError: too many are waiting.
        """
        with self._there:
            self._end(owner)
            waiting = sum(job.owner != owner for job in self._jobs)
            if waiting > MAX_WAITING:
                raise DitError(f"{waiting} others are waiting for this machine; try again in a minute")
            job = Job(owner, work)
            self._jobs.append(job)
            self._there.notify()
        return job

    def stop(self, owner: str) -> None:
        """Stop what somebody asked for."""
        with self._there:
            self._end(owner)

    def num_before(self, job: Job) -> int:
        """Return how many jobs come before one that waits."""
        with self._there:
            return self._jobs.index(job) if job in self._jobs else 0

    def leave(self, job: Job) -> None:
        """Stop a job; one that waits is over at once."""
        job.stop()
        with self._there:
            if job in self._jobs[1:]:
                self._jobs.remove(job)
                job.run()  # to its first check, which ends it

    def _end(self, owner: str) -> None:
        for job in [job for job in self._jobs if job.owner == owner]:
            self.leave(job)

    def _run(self) -> None:
        while True:
            with self._there:
                self._there.wait_for(lambda: self._jobs)
                job = self._jobs[0]
            job.run()
            with self._there:
                self._jobs.remove(job)
