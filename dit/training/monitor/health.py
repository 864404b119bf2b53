"""Whether a run is well: numbers that are not finite stop it, losses far above the recent ones are reported.

A spike is a loss more than k standard deviations above the mean of the last 200 losses that were no spikes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dit.config import Recipe
from dit.diffusion.process import Losses
from dit.errors import DitError
from dit.files import write_json
from dit.training.batch import Batch

DUMP_NAME = "bad-step-{step}-rank-{rank}.json"


@dataclass
class SpikeMonitor:
    """Finds losses that stand out from the recent ones."""

    sigma: float
    """How many standard deviations above the mean is a spike."""
    window: int = 200
    """How many losses the mean and the deviation are taken over."""
    warm_up: int = 50
    """How many losses are needed before one can be a spike."""
    recent: list[float] = field(default_factory=list)
    """The losses of the window, the oldest first; part of the checkpoint."""
    num_spikes: int = 0
    """Spikes so far; part of the checkpoint."""

    def add(self, step: int, loss: float) -> str | None:
        """Take in the loss of a step; return a line about it if it is a spike."""
        if len(self.recent) >= self.warm_up:
            mean = math.fsum(self.recent) / len(self.recent)
            deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in self.recent) / len(self.recent))
            if loss > mean + self.sigma * deviation:
                self.num_spikes += 1
                return (
                    f"step {step + 1}: the loss rose to {loss:.4g}, "
                    f"{(loss - mean) / deviation if deviation else math.inf:.1f} standard deviations above "
                    f"the mean {mean:.4g} of the last {len(self.recent)}"
                )
        self.recent = [*self.recent[1 - self.window :], loss]
        return None


def dump_bad_step(
    folder: Path, step: int, rank: int, parts: Sequence[tuple[Batch, Losses]], grad_norm: float
) -> tuple[Path, int]:
    """Write what this process fed into a step whose loss or gradient is not finite.

    The samples whose own loss is not finite are listed; where every loss is finite (the gradient is not), all are.

    Returns:
        The file and the number of samples with a bad loss.
    """
    rows = [row for batch, losses in parts for row in _rows(batch, losses)]
    bad = [row for row in rows if any(isinstance(row[key], str) for key in row)]
    path = folder / DUMP_NAME.format(step=step + 1, rank=rank)
    write_json(path, {"step": step + 1, "rank": rank, "grad_norm": _shown(grad_norm), "samples": bad or rows})
    return path, len(bad)


def bad_step_error(
    step: int, counts: Sequence[int], folder: Path, grad_norm: float, terms: Sequence[str] = ()
) -> DitError:
    """Return the error that ends a run after such a step.

    Args:
        step: the step, from 0.
        counts: samples with a bad loss in each process.
        folder: where the dumps are.
        grad_norm: norm of the gradient.
        terms: parts of the loss that are not finite.
    """
    where = "; ".join(f"{count} samples of process {rank}" for rank, count in enumerate(counts) if count)
    which = f" ({', '.join(terms)})" if terms else ""
    found = f"a loss{which} that is not finite in {where}" if where else f"a gradient norm of {grad_norm}"
    return DitError(
        f"step {step + 1}: found {found}; nothing was updated, the samples are listed in "
        f"{folder}/{DUMP_NAME.format(step=step + 1, rank='*')}; check them, lower optim.lr or set optim.max_grad_norm, "
        "and go on with --resume"
    )


def explain_out_of_memory(error: BaseException, recipe: Recipe, num_processes: int) -> DitError | None:
    """Return what to do about an error if it means that memory ran out, else None."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    text = str(error).lower()
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError) and any(word in text for word in words)
    ):
        return None
    train, size = recipe.train, recipe.model.input_size
    micro = train.batch_size // (num_processes * train.gradient_accumulation)
    return DitError(
        f"out of memory with {micro} images at a time (train.batch_size {train.batch_size}, {num_processes} processes, "
        f"train.gradient_accumulation {train.gradient_accumulation}) of latent size {size}, {recipe.data.image_size} "
        "pixels; raise train.gradient_accumulation, set train.activation_checkpointing or lower train.batch_size, and "
        "go on with --resume"
    )


def _rows(batch: Batch, losses: Losses) -> list[dict[str, object]]:
    columns = zip(batch.positions, batch.indices, batch.y.tolist(), losses.t.tolist(), strict=True)
    rows: list[dict[str, object]] = [
        {"position": int(position), "index": int(index), "label": label, "t": t}
        for position, index, label, t in columns
    ]
    for name, values in {"loss": losses.loss, **{f"loss_{name}": term for name, term in losses.terms.items()}}.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            row[name] = _shown(value)
    return rows


def _shown(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
