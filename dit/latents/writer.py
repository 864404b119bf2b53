"""What was made, written by threads, so that a disk and the processor or GPU that makes it work at the same time."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class Writer:
    """Runs actions in threads while the block runs; errors are raised, in the order of the actions, by what follows.

    Args:
        num_threads: actions that run at a time; no more of them wait in memory.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="writer")
        self._num_threads = num_threads
        self._pending: deque[Future[None]] = deque()

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
        return not all(action.done() for action in self._pending)

    def start(self, action: Callable[[], None]) -> None:
        """Begin an action once a thread is free, the oldest one's."""
        while len(self._pending) >= self._num_threads:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(action))

    def wait(self) -> None:
        """Wait until nothing runs any more."""
        while self._pending:
            self._pending.popleft().result()
