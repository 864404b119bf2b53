"""What rows of metrics are averaged from.

A row covers the steps since the row before. The window of sums is part of a checkpoint, so that a resumed run writes
the rows that the uninterrupted one would have written; only times differ.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from dit.training.monitor.step_totals import StepMetrics, StepTotals


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
