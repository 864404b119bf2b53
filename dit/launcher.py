"""Which of a launcher's processes this is: torchrun and accelerate number them in the environment.

`run_in_processes` is a launcher for one machine, of processes that need not talk to each other.
"""

import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

from dit.errors import ConfigError, DitError, Preempted
from dit.signals import STOP_SIGNALS, StopSignals, end_with_parent

POLL_SECONDS = 0.5
"""Between two looks at signals and processes."""


class Share(NamedTuple):
    """Which part of some work is a process's: as many parts as processes take turns."""

    rank: int
    """Its number, from 0."""
    num: int
    """How many there are."""


ALONE = Share(0, 1)


def rank() -> int:
    """Return this process's number among all, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Return this process's number among those of this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def num_processes() -> int:
    """Return the number of processes on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share() -> Share:
    """Return which share of the work is this process's."""
    return Share(rank(), num_processes())


def is_main() -> bool:
    """Tell whether this process is the one that speaks."""
    return rank() == 0


def share_cores(count: int) -> None:
    """Let torch, once it is imported, compute in so many threads that `count` processes fill the machine."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // count)))


def num_cores() -> int:
    """Return how many cores this process may use; macOS does not say, and means all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wait_for_files(paths: Iterable[Path]) -> None:
    """Wait until all files are there, which other processes write: one that fails ends this one by its launcher."""
    for path in paths:
        while not path.is_file():
            time.sleep(POLL_SECONDS)


def check_processes(count: int) -> None:
    """Refuse a number of processes that can't be started.

    Raises:
        ConfigError: naming the option.
    """
    if count < 1 or (count > 1 and num_processes() > 1):
        raise ConfigError(f"--processes: expected at least 1, and just 1 under another launcher, found {count}")


def in_processes(count: int, function: Callable[[], None]) -> None:
    """Run a function in this process, or in `count` forks of it; see `run_in_processes`."""
    run_in_processes(count, function) if count > 1 else function()


def run_in_processes(count: int, function: Callable[[], None]) -> None:
    """Run a function in forks of this process, numbered as launchers number theirs, and wait for them.

    The first that fails, and a signal to this process, stops the others by SIGTERM.

    Raises:
        DitError, OSError: a process raised it, or was killed.
        Preempted: a signal came.
    """
    context = multiprocessing.get_context("fork")
    receivers, senders = zip(*(context.Pipe(duplex=False) for _ in range(count)), strict=True)
    children = [
        context.Process(target=_run_as, args=(rank, count, function, sender)) for rank, sender in enumerate(senders)
    ]
    with StopSignals() as signals:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a plugin's import may have left threads, which these forks do without
            for child in children:
                child.start()
        is_told = False
        while running := [child for child in children if child.is_alive()]:
            wait([child.sentinel for child in running], POLL_SECONDS)
            if not is_told and (signals.received or any(child.exitcode for child in children)):
                is_told = True
                for child in running:
                    child.terminate()
    failed = [rank for rank in range(count) if children[rank].exitcode]
    errors = [
        receivers[rank].recv()
        if receivers[rank].poll()
        else DitError(f"process {rank} of {count} failed with exit code {children[rank].exitcode}")
        for rank in failed
    ]
    for error in sorted(errors, key=lambda error: isinstance(error, Preempted)):
        raise error


def _run_as(rank: int, count: int, function: Callable[[], None], sender: Connection) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    share_cores(count)
    end_with_parent(signal.SIGTERM)
    try:
        function()
    except (DitError, OSError, Preempted) as error:
        sender.send(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sender.send(Preempted("stopped by a signal; the same command goes on"))
        sys.exit(1)
