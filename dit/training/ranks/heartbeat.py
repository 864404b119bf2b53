"""Which process of a run still lives, for the others to say when an exchange fails.

Each process keeps `heartbeats/rank-<r>.json` fresh from a thread of its own. The backends' errors name no rank; here
a process whose file went stale, or that is gone, is named.
"""

import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dit.errors import DitError

BEAT_SECONDS = 1.0
STALE_SECONDS = 4.0
"""A heartbeat older than this means that the process is stopped or gone."""


class Heartbeat:
    """Keeps this process's heartbeat fresh while the block runs."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / f"rank-{rank}.json"
        self._facts: dict[str, Any] = {"rank": rank, "pid": os.getpid(), "host": socket.gethostname()}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.step = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if error is None:
            self._path.unlink(missing_ok=True)
            return
        # Left for the others, who find that this process has ended: what it ended with, unless that was their silence.
        self._facts["ended"] = "" if isinstance(error, ExchangeError) else f"{type(error).__name__}: {error}"
        self._write()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self._write()
            except OSError:  # a full disk must not end a thread that nobody watches; the file goes stale and says so
                continue

    def _write(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self._facts | {"step": self.step, "time": time.time()}))
        temporary.replace(self._path)


class ExchangeError(DitError):
    """An exchange between processes failed, usually because one of them is gone or stopped."""


def is_exchange_failure(error: BaseException) -> bool:
    """Tell whether an error comes from the exchange between processes."""
    import torch.distributed as dist

    words = ("gloo", "nccl", "connection closed by peer", "timed out waiting", "socket", "process group")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def explain(folder: Path, num_processes: int, rank: int, error: BaseException) -> ExchangeError:
    """Return the error that names the processes that do not answer, as process `rank` sees it.

    The heartbeat of a process that was killed a moment ago is still fresh, so this waits until it would be stale.
    """
    deadline = time.monotonic() + STALE_SECONDS + BEAT_SECONDS
    silent = _silent(folder, num_processes)
    while not silent and time.monotonic() < deadline:
        time.sleep(BEAT_SECONDS / 4)
        silent = _silent(folder, num_processes)
    reason = str(error).strip().splitlines()[0][:200]
    who = "; ".join(silent) or "no process is silent, so look at the network between the machines"
    return ExchangeError(f"process {rank}: an exchange with the others failed: {who} ({reason}); go on with --resume")


def _silent(folder: Path, num_processes: int) -> list[str]:
    lines = []
    for rank in range(num_processes):
        try:
            facts = json.loads((folder / f"rank-{rank}.json").read_text())
        except (OSError, ValueError):
            lines.append(f"process {rank} has ended")
            continue
        if "ended" in facts:
            lines += [f"process {rank} ended with: {facts['ended']}"] if facts["ended"] else []
            continue
        age = time.time() - facts["time"]
        where = f"process {rank} (pid {facts['pid']} on {facts['host']})"
        if facts["host"] == socket.gethostname() and _is_gone(facts["pid"]):
            lines.append(f"{where} is gone, last seen at step {facts['step']}")
        elif age > STALE_SECONDS:
            lines.append(f"{where} is silent for {age:.0f} s, last seen at step {facts['step']}")
    return lines


def _is_gone(pid: int) -> bool:
    """Tell whether a process of this machine does not exist or is a zombie; False where that can't be known."""
    if not Path("/proc/self/stat").exists():
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
