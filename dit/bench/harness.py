"""How a ratio is measured: all contenders in one process, in turn, round by round.

Machines drift by tens of percent within minutes. A round runs every contender once, in an order that rotates; the ratio
of a round is theirs / ours, and what is reported is the median of the rounds with their quartiles. The first call of
each, which compiles and fills caches, is not counted.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from dit.bench.settings import Settings
from dit.layers.precision import MIN_WIDTH, bf16_pays, tf32_products

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
    memory: tuple[float, float] | None = None
    """MB that a GPU held at most for ours and for theirs, from what builds it to the end of its first call."""
    share: float | None = None
    """Operations per second of ours in parts of what large products reach on this device."""


def race(
    benchmark: str,
    case: str,
    contenders: Mapping[str, Callable[[], Run]],
    settings: Settings,
    *,
    scale: Mapping[str, float] | None = None,
    operations: float | None = None,
) -> Iterator[Row]:
    """Run contenders in turn, within the budget, and yield one row per peer.

    Args:
        benchmark: its name.
        case: what is run.
        contenders: name -> what builds the work; ours is the first.
        settings: device, rounds, and the budget of this race: when it is spent no other contender is built and no round
            begun but the first.
        scale: name -> how many times what was timed a whole work is; 1 by default.
        operations: of one run of ours, two for a multiply-accumulate, where they are known.
    """
    with tf32_products(settings.device):  # on both sides: it is what a user of a GPU sets
        yield from _race(benchmark, case, contenders, settings, scale or {}, operations)


def _race(
    benchmark: str,
    case: str,
    contenders: Mapping[str, Callable[[], Run]],
    settings: Settings,
    scale: Mapping[str, float],
    operations: float | None,
) -> Iterator[Row]:
    deadline = time.perf_counter() + settings.budget
    runs: dict[str, Run] = {}
    held: dict[str, float] = {}
    for name, build in contenders.items():
        if runs and time.perf_counter() >= deadline:
            settings.say(f"    {name}: skipped, the budget of {settings.budget:.0f} s is spent; --budget raises it")
            continue
        before = _begin_memory(settings.device)
        runs[name] = build()
        settings.say(f"    {name}: first call {timed(runs[name], settings.device):.2f} s")
        if before is not None:
            held[name] = (torch.cuda.max_memory_allocated(settings.device) - before) / 1e6
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    longest = 0.0
    for number in range(settings.rounds if len(names) > 1 else 0):  # the first is a row for all that was built
        start = time.perf_counter()
        if number and start + longest >= deadline:
            break
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(timed(runs[name], settings.device) * scale.get(name, 1))
        longest = max(longest, time.perf_counter() - start)
    own = seconds.pop(names[0])
    share = None if operations is None or not own else operations / statistics.median(own) / peak_of(settings.device)
    for name, theirs in seconds.items():
        low, ratio, high = quartiles([b / a for a, b in zip(own, theirs, strict=True)])
        medians = 1e3 * statistics.median(own), 1e3 * statistics.median(theirs)
        memory = (held[names[0]], held[name]) if held else None
        yield Row(benchmark, case, name, ratio, low, high, *medians, len(own), memory=memory, share=share)


def _begin_memory(device: torch.device) -> int | None:
    """Return the bytes that a GPU holds now, and count the most from here on; None on other devices."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def timed(run: Run, device: torch.device) -> float:
    """Return the seconds until one run is done on its device, which has done all that it was asked before."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


PEAK_SIZES = {"cpu": 2048, "cuda": 8192}
"""Side of the matrices that `peak_of` multiplies, by kind of device: large enough to fill it."""
PEAK_ROUNDS = 5


@cache
def peak_of(device: torch.device) -> float:
    """Return the operations per second of large square products in the type that is fastest here: best of some."""
    dtype = torch.bfloat16 if bf16_pays(device, MIN_WIDTH) else torch.float32
    size = PEAK_SIZES.get(device.type, PEAK_SIZES["cpu"])
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = [_seconds_of_product(a, b) for _ in range(PEAK_ROUNDS + 1)]
    return 2 * size**3 / min(times[1:])


def _seconds_of_product(a: torch.Tensor, b: torch.Tensor) -> float:
    return timed(lambda: a @ b, a.device)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; of one value that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
