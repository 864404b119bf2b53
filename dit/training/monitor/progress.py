"""How far a run is: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

LINE_SECONDS = 5.0
"""Without a terminal at most one line in this many seconds is written, besides the first and the last."""


class Progress:
    """Shows step, loss, images per second and the time left.

    Args:
        num_steps: steps in all.
        start: steps already made.
        enabled: whether this process shows anything.
    """

    def __init__(self, num_steps: int, *, start: int = 0, enabled: bool = True) -> None:
        self._num_steps, self._enabled = num_steps, enabled
        self._start, self._began, self._last_line = start, time.perf_counter(), 0.0
        self._bar = None
        if enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=num_steps, initial=start, unit="step", dynamic_ncols=True)

    def advance(self) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.update()

    def show(self, row: dict[str, Any]) -> None:
        """Show the figures of a row of metrics."""
        figures = f"loss {row['loss']:.4f}, {row['images_per_second']:.0f} images/s"
        if "val_loss" in row:
            figures += f", validation loss {row['val_loss']:.4f}"
        if self._bar is not None:
            self._bar.set_postfix_str(figures)
        elif self._enabled:
            self._line(row["step"], figures)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, step: int, figures: str) -> None:
        now = time.perf_counter()
        if now - self._last_line < LINE_SECONDS and self._last_line and step < self._num_steps:
            return
        self._last_line = now
        left = (now - self._began) / max(1, step - self._start) * (self._num_steps - step)
        print(f"step {step}/{self._num_steps}, {figures}, {time_left(left)} left", file=sys.stderr, flush=True)


def time_left(seconds: float) -> str:
    """Return a duration as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
