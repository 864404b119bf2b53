"""The folder of one run: who may write into it, what it says of the run, and how it is found again.

    recipe.yaml  run.json  status.json  metrics.jsonl  checkpoints/  samples/  snapshots/  heartbeats/  tensorboard/

One process at a time owns the folder, through a lock that the system drops when the process ends in any way.
"""

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from dit import checkpoint
from dit.errors import ConfigError
from dit.files import write_json

LOCK_NAME = "lock"
State = Literal["running", "done", "preempted", "failed"]


class RunFolder:
    """Paths of a run folder, and its status."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.facts = self.path / "run.json"
        self.status = self.path / "status.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.snapshots = self.path / "snapshots"
        self.samples = self.path / "samples"
        self.heartbeats = self.path / "heartbeats"

    @contextmanager
    def locked(self, *, resume: bool) -> Iterator[None]:
        """Own the folder while the block runs; it is made if need be, and what a killed process left is removed.

        Raises:
            ConfigError: it can't be written, another run is in it, or it is not empty and `resume` is not set.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / LOCK_NAME, "a+")  # noqa: SIM115 - held open, that is the lock
        except OSError as error:
            raise ConfigError(f"{self.path}: expected a folder that can be written, found: {error.strerror}") from None
        with lock:
            _lock(lock.fileno(), self.path)
            lock.truncate(0)
            lock.write(f"{os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
            if not resume and (found := [path.name for path in self.path.iterdir() if path.name != LOCK_NAME]):
                raise ConfigError(
                    f"{self.path}: expected a new or empty folder, found {sorted(found)[0]}; "
                    "continue that run with --resume or choose another --output"
                )
            for folder in (self.path, self.checkpoints, self.snapshots, self.samples):
                checkpoint.clean(folder)
            shutil.rmtree(self.heartbeats, ignore_errors=True)
            yield

    def write_status(self, state: State, **facts: Any) -> None:
        """Write `status.json`: the state of the run, when it was written, and further facts."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        write_json(self.status, {"state": state, "time": now, "pid": os.getpid(), **facts})


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = (path / LOCK_NAME).read_text().strip() or "unknown"
        raise ConfigError(f"{path}: another run is writing here (process {owner}); choose another --output") from None
