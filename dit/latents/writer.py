"""Parts written by a thread, so that a disk and an encoder work at the same time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class Writer:
    """Runs one action at a time in a thread while the block runs; its error is raised by what follows it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()

    @property
    def is_busy(self) -> bool:
        """Whether an action still runs."""
        return self._pending is not None and not self._pending.done()

    def start(self, action: Callable[[], None]) -> None:
        """Begin an action when the one before is done: no more than one part waits in memory."""
        self.wait()
        self._pending = self._pool.submit(action)

    def wait(self) -> None:
        """Wait until nothing runs any more."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
