"""ADM's figures from features on disk, in a process that does nothing else: seconds, and the memory that it takes.

The features lie in parts as `dit evaluate` leaves them. The peer is the original's formulas in NumPy, whose features
are in memory. Each is done once, for 50,000 samples take minutes.

Shapes: N samples, a fifth as many reference images.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dit.bench import originals
from dit.bench.harness import Row
from dit.bench.settings import Settings, pin_threads
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.measure import by_memory
from dit.evaluation.protocols import PROTOCOLS

WIDTHS = {"pool": 2_048, "spatial": 2_023, "logits": 1_008}
PART = 500
"""Images of a part."""
SPLIT = 5_000
Seconds = Mapping[str, float]
"""Figure -> how long it took."""


def measure(num: int, settings: Settings) -> Iterator[Row]:
    """Measure every figure of `num` samples, and the most memory that was held."""
    known = max(num // 5, originals.NEIGHBOURHOOD + 1)
    with tempfile.TemporaryDirectory() as name:
        folders = Path(name) / "samples", Path(name) / "reference"
        for seed, (folder, count) in enumerate(zip(folders, (num, known), strict=True)):
            write_features(folder, count, seed)
        settings.say(f"evaluate {num} from disk")
        found = {peer: alone(work, folders) for peer, work in (("dit", by_dit), (originals.NAME, by_numpy))}
    (ours, held), (theirs, held_by_theirs) = found.values()
    case = f"from disk, {num} against {known}"
    for figure, seconds in ours.items():
        yield _row(f"{figure} {case}", 1e3 * seconds, 1e3 * theirs[figure], "ms")
    if held and held_by_theirs:
        yield _row(f"memory of all {case}", held, held_by_theirs, "MB")


def _row(case: str, ours: float, theirs: float, unit: str) -> Row:
    ratio = theirs / ours
    return Row("evaluate", case, originals.NAME, ratio, ratio, ratio, ours, theirs, 1, unit)


def write_features(folder: Path, num: int, seed: int) -> None:
    """Write random features like Inception's: not negative, their deviations far apart."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num, PART):
        rows = min(PART, num - start)
        part = {name: torch.randn(rows, width, generator=generator) for name, width in WIDTHS.items()}
        for name in ("pool", "spatial"):
            part[name] = part[name].mul_(torch.logspace(-1, 0, WIDTHS[name])).add_(0.1).relu_()
        save_file(part | {"logits": part["logits"].mul_(2)}, folder / f"{start:08d}.safetensors")


def alone(work: Callable[..., Seconds], folders: tuple[Path, Path]) -> tuple[Seconds, float | None]:
    """Return what a new process measured, and the most memory that it held, in MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_peak, (work, folders))


def _with_peak(work: Callable[..., Seconds], folders: tuple[Path, Path]) -> tuple[Seconds, float | None]:
    pin_threads()
    return work(*folders), peak_megabytes()


def peak_megabytes() -> float | None:
    """Return the most memory that this process has held, in MB; None where the system does not tell."""
    try:
        with open("/proc/self/status") as file:  # getrusage tells the most of this process or of what it was made from
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        return None


def by_dit(samples: Path, known: Path) -> Seconds:
    """Measure by `dit evaluate`'s metrics, with standard errors and floors."""
    sets = []
    for folder in (samples, known):
        sets.append(FeatureSet())
        for path in sorted(folder.iterdir()):
            with safe_open(path, "pt") as file:
                sets[-1].add_file(path, file.get_slice("pool").get_shape()[0])
    metrics = {" and ".join(metric.names): metric for metric in by_memory(PROTOCOLS["adm"].metrics)}
    return {name: _seconds(metric.measure, *sets) for name, metric in metrics.items()}


def by_numpy(samples: Path, known: Path) -> Seconds:
    """Measure by the original's formulas; reading is part of each figure, as in `by_dit`."""

    def rows(folder: Path, name: str) -> np.ndarray:
        return np.concatenate([load_file(path)[name].numpy() for path in sorted(folder.iterdir())])

    def frechet(name: str) -> Any:
        return originals.frechet_distance(*(originals.statistics(rows(folder, name)) for folder in (samples, known)))

    def shares() -> Any:
        return originals.precision_recall(*(rows(folder, "pool") for folder in (samples, known)))

    def score() -> Any:
        logits = rows(samples, "logits")
        return originals.inception_score(logits, max(1, len(logits) // SPLIT))

    return {
        "fid": _seconds(frechet, "pool"),
        "sfid": _seconds(frechet, "spatial"),
        "inception_score": _seconds(score),
        "precision and recall": _seconds(shares),
    }


def _seconds(work: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start
