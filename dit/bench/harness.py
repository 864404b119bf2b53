"""How a ratio is measured: all contenders in one process, in turn, round by round.

Machines drift by tens of percent within minutes. A round runs every contender once, in an order that rotates; the ratio
of a round is theirs / ours, and what is reported is the median of the rounds with their quartiles. The first call of
each, which compiles and fills caches, is not counted.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dit.bench.settings import Settings

Run = Callable[[], Any]
"""One unit of work."""


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
    """Median of theirs / ours over the rounds; above 1 we are faster."""
    low: float
    """Lower quartile of the ratio."""
    high: float
    """Upper quartile of the ratio."""
    ours: float
    """Median of ours."""
    theirs: float
    """Median of theirs."""
    rounds: int
    """Number of rounds that there was time for."""
    unit: str = "ms"
    """What ours and theirs are in."""


def race(
    benchmark: str,
    case: str,
    contenders: Mapping[str, Callable[[], Run]],
    settings: Settings,
    *,
    scale: Mapping[str, float] | None = None,
) -> Iterator[Row]:
    """Run contenders in turn, within the budget, and yield one row per peer.

    Args:
        benchmark: its name.
        case: what is run.
        contenders: name -> what builds the work; ours is the first.
        settings: device, rounds, and the budget of this race: when it is spent no other contender is built and no round
            begun but the first.
        scale: name -> how many times what was timed a whole work is; 1 by default.
    """
    deadline = time.perf_counter() + settings.budget
    runs: dict[str, Run] = {}
    for name, build in contenders.items():
        if runs and time.perf_counter() >= deadline:
            settings.say(f"    {name}: skipped, the budget of {settings.budget:.0f} s is spent; --budget raises it")
            continue
        runs[name] = build()
        settings.say(f"    {name}: first call {timed(runs[name], settings.device):.2f} s")
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    longest = 0.0
    for number in range(settings.rounds if len(names) > 1 else 0):  # the first is a row for all that was built
        start = time.perf_counter()
        if number and start + longest >= deadline:
            break
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(timed(runs[name], settings.device) * (scale or {}).get(name, 1))
        longest = max(longest, time.perf_counter() - start)
    own = seconds.pop(names[0])
    for name, theirs in seconds.items():
        low, ratio, high = quartiles([b / a for a, b in zip(own, theirs, strict=True)])
        medians = 1e3 * statistics.median(own), 1e3 * statistics.median(theirs)
        yield Row(benchmark, case, name, ratio, low, high, *medians, len(own))


def timed(run: Run, device: torch.device) -> float:
    """Return the seconds until one run is done on its device."""
    start = time.perf_counter()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; of one value that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
