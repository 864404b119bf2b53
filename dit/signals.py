"""Signals that ask a program to stop: noted when they come, heeded when a step or a batch is done."""

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignals:
    """Notes SIGTERM, SIGINT and SIGUSR1 while the block runs, and does nothing else about them.

    Further signals change nothing: what is being written is finished. SIGKILL remains for the impatient, and leaves
    whole what was finished before.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # Python lets only the main thread handle signals; elsewhere they keep the program's own handlers.
        for number in STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ():
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)


def end_with_parent(number: signal.Signals) -> None:
    """Send this process a signal once the process that started it is gone, whatever it died of."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()
