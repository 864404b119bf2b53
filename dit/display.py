"""What people see while work goes on, all of it on stderr: messages, and one display of progress.

Progress is a bar on a terminal and elsewhere a plain line now and then, so that logs stay readable.
"""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_SECONDS = 5.0
"""Seconds between two lines of progress without a terminal; shorter work shows none."""
BAR = "{l_bar}{bar}| {n:,.0f}/{total:,.0f} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_bars: "list[tqdm]" = []


def say(message: str) -> None:
    """Tell the user what was decided for them, or found on the way."""
    if _bars:
        _bars[-1].write(f"dit: {message}", file=sys.stderr)
    else:
        print(f"dit: {message}", file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Tell the user of something that is probably not as they want it."""
    say(f"warning: {message}")


class Progress:
    """Shows how much of some work is done, and the time left.

    Args:
        total: amount of work.
        title: what is done.
        unit: what is counted, in the plural.
        start: amount that was done before.
        unit_bytes: what each of them takes on the disk, to be shown too.
        enabled: whether anything is shown.
    """

    def __init__(
        self,
        total: float,
        title: str,
        *,
        unit: str = "images",
        start: float = 0,
        unit_bytes: int = 0,
        enabled: bool = True,
    ) -> None:
        self._total, self._title, self._unit, self._enabled = total, title, unit, enabled
        self._unit_bytes = unit_bytes
        self._start = self._done = start
        self._began = self._last_line = time.perf_counter()
        self._figures, self._shown = "", start
        self._bar = None
        if enabled and sys.stderr.isatty():
            from tqdm import tqdm

            options = {"unit": f" {unit}", "dynamic_ncols": True, "bar_format": BAR}
            self._bar = tqdm(total=total, initial=start, desc=title, **options)
            _bars.append(self._bar)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advance(self, amount: float = 1) -> None:
        """Count work that was done."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(amount)
            if self._unit_bytes:
                self._bar.set_postfix_str(in_bytes(self._done * self._unit_bytes))
        elif self._done < self._total and time.perf_counter() - self._last_line > LINE_SECONDS:
            self._line()

    def reach(self, done: float) -> None:
        """Count all work that is done by now, also by others."""
        self.advance(done - self._done)

    def show(self, figures: str) -> None:
        """Show this text beside the count from now on; the first one is shown at once."""
        is_first, self._figures = not self._figures, figures
        if self._bar is not None:
            self._bar.set_postfix_str(figures)
        elif is_first:
            self._line()

    def close(self) -> None:
        """End the bar, or write the last line."""
        if self._bar is not None:
            self._bar.close()
            _bars.remove(self._bar)
        elif self._shown > self._start and self._shown < self._done:
            self._line()

    def _line(self) -> None:
        if not self._enabled:
            return
        self._last_line, self._shown = time.perf_counter(), self._done
        speed = (self._done - self._start) / (self._last_line - self._began)
        left = f"{time_left((self._total - self._done) / speed)} left" if speed else "time left unknown"
        figures = self._figures or f"{speed:.3g} {self._unit}/s"
        count = f"{self._done:,.0f}/{self._total:,.0f} {self._unit}"
        count += f" ({in_bytes(self._done * self._unit_bytes)})" if self._unit_bytes else ""
        print(f"{self._title}: {count}, {figures}, {left}", file=sys.stderr, flush=True)


def time_left(seconds: float) -> str:
    """Return a duration as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def in_bytes(number: float) -> str:
    """Return a number of bytes as people read it, such as 84.1 GB."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:,.{0 if units[0] == 'bytes' else 1}f} {units[0]}"
