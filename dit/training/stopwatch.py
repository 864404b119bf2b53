"""Where the time of a run goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Where the time goes: training itself, its waits for data, and each kind of pause."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by kind, over the whole run with its resumptions; part of the checkpoint."""
    _started: float = field(default_factory=time.perf_counter)

    @property
    def of_steps(self) -> float:
        """Seconds of optimizer steps, with their waits for data."""
        return self.seconds.get("train", 0.0) + self.seconds.get("data", 0.0)

    @contextmanager
    def pause(self, kind: str) -> Iterator[None]:
        """Count the time of the block as this kind and not as training."""
        self.lap("train")
        try:
            yield
        finally:
            self.lap(kind)

    def lap(self, kind: str) -> None:
        """Count the time since the last call as this kind."""
        now = time.perf_counter()
        self.seconds[kind] = self.seconds.get(kind, 0.0) + now - self._started
        self._started = now
