"""The folder of one run: who may write into it, and what it says of the run's state.

One process at a time owns the folder, through a lock that the system drops when the process ends in any way.
"""

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from dit import checkpoint
from dit.errors import ConfigError
from dit.files import write_json
from dit.run_files import RunFiles

State = Literal["running", "done", "preempted", "failed"]


class RunFolder(RunFiles):
    """The files of a run that is being trained: its lock and its status."""

    @contextmanager
    def locked(self, *, resume: bool) -> Iterator[None]:
        """Own the folder while the block runs; it is made if need be, and what a killed process left is removed.

        Raises:
            ConfigError: it can't be written, another run is in it, or it is not empty and `resume` is not set.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.lock, "a+")  # noqa: SIM115 - held open, that is the lock
        except OSError as error:
            raise ConfigError(f"{self.path}: expected a folder that can be written, found: {error.strerror}") from None
        with lock:
            self._take(lock.fileno())
            lock.truncate(0)
            lock.write(f"{os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
            if not resume and (found := [path.name for path in self.path.iterdir() if path != self.lock]):
                raise ConfigError(
                    f"{self.path}: expected a new or empty folder, found {sorted(found)[0]}; "
                    "continue that run with --resume or choose another --output"
                )
            for folder in (self.path, self.checkpoints, self.snapshots, self.best, self.samples):
                checkpoint.clean(folder)
            shutil.rmtree(self.heartbeats, ignore_errors=True)
            yield

    def write_status(self, state: State, **facts: Any) -> None:
        """Write `status.json`: the state of the run, when it was written, and further facts."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        write_json(self.status, {"state": state, "time": now, "pid": os.getpid(), **facts})

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self.lock.read_text().strip() or "unknown"
            raise ConfigError(
                f"{self.path}: another run is writing here (process {owner}); choose another --output"
            ) from None
