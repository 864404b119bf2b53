"""How a ratio is measured: all contenders in one process, in turn, round by round.

Machines drift by tens of percent within minutes. A round runs every contender once, in an order that rotates; the ratio
of a round is theirs / ours, and what is reported is the median of the rounds with their quartiles. The first calls,
which compile and fill caches, are timed apart.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

Run = Callable[[], Any]
"""One unit of work; it returns when the work is done."""


@dataclass(frozen=True)
class Row:
    """One comparison."""

    benchmark: str
    """Name of the benchmark."""
    case: str
    """What was run: model, batch, ..."""
    peer: str
    """Against whom."""
    ratio: float
    """Median of theirs / ours over the rounds; above 1 we are faster (or smaller)."""
    low: float
    """Lower quartile of the ratio."""
    high: float
    """Upper quartile of the ratio."""
    percent_of_limit: float | None
    """How much of our time the arithmetic alone would take at the peak measured in this run; None: not known."""
    ours: float
    """Median of ours."""
    theirs: float
    """Median of theirs."""
    unit: str
    """Unit of ours and theirs."""

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Race:
    """Times of all contenders by name, a list with one entry per round."""

    seconds: dict[str, list[float]]
    """Measured rounds."""
    first: dict[str, float]
    """First call of each: compilation, caches."""

    def rows(
        self, benchmark: str, case: str, *, ours: str, limit: float | None = None, scale: float = 1e3, unit: str = "ms"
    ) -> list[Row]:
        """Return one row per peer.

        Args:
            benchmark: its name.
            case: what was run.
            ours: name of our contender.
            limit: seconds that the arithmetic alone would take.
            scale: factor from seconds to the unit.
            unit: of the reported times.
        """
        own = self.seconds[ours]
        median = statistics.median(own)
        percent = None if limit is None else 100 * limit / median
        rows = []
        for name, theirs in self.seconds.items():
            if name == ours:
                continue
            low, ratio, high = quartiles([b / a for a, b in zip(own, theirs, strict=True)])
            rows.append(
                Row(
                    benchmark,
                    case,
                    name,
                    ratio,
                    low,
                    high,
                    percent,
                    scale * median,
                    scale * statistics.median(theirs),
                    unit,
                )
            )
        return rows


def race(contenders: Mapping[str, Run], *, rounds: int, warmups: int = 1, say: Callable[[str], None] = print) -> Race:
    """Run contenders in turn.

    Args:
        contenders: name -> work.
        rounds: measured rounds.
        warmups: further unmeasured runs after the first.
        say: is told each contender's first time, which holds what it compiled.
    """
    first = {}
    for name, run in contenders.items():
        first[name] = timed(run)
        for _ in range(warmups):
            run()
        say(f"    {name}: first call {first[name]:.2f} s")
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(timed(contenders[name]))
    return Race(seconds, first)


def timed(run: Run) -> float:
    """Return the seconds that one run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; of one value that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
