"""What rows of metrics are averaged from, and the trackers that receive them besides metrics.jsonl.

A row covers the steps since the row before. The window of sums is part of a checkpoint, so that a resumed run writes
the rows that the uninterrupted one would have written; only times differ.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dit.display import warn
from dit.training.monitor.step_totals import StepMetrics, StepTotals

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


@dataclass
class Window:
    """Sums over the steps since the last row."""

    num_steps: int = 0
    """Steps."""
    num_samples: int = 0
    """Images."""
    sums: list[float] = field(default_factory=list)
    """Sum of the packed totals of the steps."""
    max_grad_norm: float = 0.0
    """Largest gradient norm."""
    terms: tuple[str, ...] = ()
    """Names of the parts of the loss."""
    began: float = 0.0
    """Seconds of steps (see `Stopwatch`) when the window was opened."""

    def add(self, metrics: StepMetrics) -> None:
        """Take in the metrics of one step."""
        self.num_steps += 1
        self.num_samples += metrics.num_samples
        values = metrics.totals.pack().tolist()
        self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(values), values, strict=True)]
        self.max_grad_norm = max(self.max_grad_norm, metrics.grad_norm)
        self.terms = metrics.terms

    def row(self, num_buckets: int) -> dict[str, Any]:
        """Return the means: loss, its parts, loss by time (null where a bucket is empty), gradient norm."""
        totals = StepTotals.unpack(torch.tensor(self.sums, dtype=torch.float64), num_buckets)
        terms = zip(self.terms, totals.terms.tolist(), strict=True)
        return {
            "loss": totals.loss.item() / self.num_samples,
            **{f"loss_{name}": value / self.num_samples for name, value in terms},
            "loss_by_time": mean_by_bucket(totals.loss_by_time.tolist(), totals.count_by_time.tolist()),
            "grad_norm": totals.grad_norm.item() / self.num_steps,
            "grad_norm_max": self.max_grad_norm,
        }

    def state(self) -> dict[str, Any]:
        """Return the window as JSON."""
        return asdict(self)


def mean_by_bucket(sums: Sequence[float], counts: Sequence[float]) -> list[float | None]:
    """Return the mean of each bucket, None for an empty one."""
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


class Trackers:
    """Experiment trackers besides metrics.jsonl; one that fails is reported once and left out from then on."""

    def __init__(self, names: Sequence[str], folder: Path, *, first_step: int) -> None:
        self._trackers: dict[str, GeneralTracker] = {}
        for name in names:
            with self._tolerated(name, "could not be started"):
                self._trackers[name] = _start_tracker(name, folder, first_step)

    def log(self, row: dict[str, Any]) -> None:
        """Pass the numbers of a row on; those of a list or an object get one name each."""
        values = dict(_flat(row))
        for name, tracker in list(self._trackers.items()):
            with self._tolerated(name, "failed"):
                tracker.log(values, step=row["step"])

    def close(self) -> None:
        """End the trackers."""
        for name, tracker in list(self._trackers.items()):
            with self._tolerated(name, "failed"):
                tracker.finish()

    @contextmanager
    def _tolerated(self, name: str, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a tracker may fail in any way, and training must go on
            self._trackers.pop(name, None)
            warn(f"the tracker {name} {what} ({error}); training goes on without it, metrics.jsonl has every row")


def _start_tracker(name: str, folder: Path, first_step: int) -> "GeneralTracker":
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, TensorBoardTracker

    if name == "tensorboard":
        # Rows after the checkpoint that is resumed from are hidden, for they will come again.
        tracker = TensorBoardTracker("tensorboard", logging_dir=folder, purge_step=first_step + 1)
    else:
        tracker = LOGGER_TYPE_TO_CLASS[name](folder.name)
    tracker.start()
    return tracker


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        items = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else None
        if items is not None:
            yield from _flat({str(inner): entry for inner, entry in items.items()}, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield prefix + key, value
