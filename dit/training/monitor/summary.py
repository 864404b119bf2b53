"""A run in a few sentences: how far it is, how good, whether it still learns, and what is unusual."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from dit.errors import DitError
from dit.files import read_json
from dit.run_files import RunFiles

FALLING, RISEN = 0.01, 0.02
"""Share by which a validation loss is below that of a fifth of the run ago, or above its lowest, to be told."""
WAITING = 0.02
"""Share of the time that may be spent in waits for data without a word."""
STATES = {
    "done": "Finished",
    "preempted": "Stopped by a signal, can be resumed",
    "failed": "Failed",
    "running": "Running",
}


def summary(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    """Return sentences about a run.

    Args:
        folder: of the run, or its export, which has no state.
        rows: its metrics, at least one.
    """
    return [*_progress(folder, rows), *_loss(rows), *_quality(rows), *_health(rows)]


def _progress(folder: Path, rows: list[dict[str, Any]]) -> Iterator[str]:
    newest, status = rows[-1], _status(folder)
    state, max_steps = STATES.get(status.get("state", ""), "Metrics"), status.get("max_steps")
    reached = f"step {newest['step']:,}" + (f" of {max_steps:,}" if max_steps else "")
    seconds = timedelta(seconds=round(sum(newest["seconds"].values())))
    images = f"{newest['images_seen']:,} images in {seconds}, {newest['images_per_second']:.0f} a second"
    yield f"{state}: {reached}, {images}."
    if status.get("state") == "failed" and status.get("message"):
        yield f"It says: {status['message']}"


def _status(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(RunFiles(folder).status)
    except DitError:
        return {}
    return content if isinstance(content, dict) else {}


def _loss(rows: list[dict[str, Any]]) -> Iterator[str]:
    validated = [(row["step"], row["val_loss"]) for row in rows if row.get("val_loss") is not None]
    if not validated:
        yield f"Loss {rows[-1]['loss']:.4f}; no validation."
        return
    (step, newest), (best_step, best) = validated[-1], min(validated, key=lambda pair: pair[1])
    text = f"Validation loss {newest:.4f}"
    before = [pair for pair in validated if pair[0] <= 0.8 * step]
    if newest > (1 + RISEN) * best:
        text += f", {newest / best - 1:.0%} above its lowest at step {best_step:,}: it may have begun to overfit"
    elif before:
        since, loss = before[-1]
        share = 1 - newest / loss
        text += f", {share:.1%} lower than" if share > FALLING else ", as"
        text += f" at step {since:,}"
    yield f"{text}."


def _quality(rows: list[dict[str, Any]]) -> Iterator[str]:
    measured = [(row["eval_frechet_distance"], row) for row in rows if "eval_frechet_distance" in row]
    if measured:
        distance, row = min(measured, key=lambda pair: pair[0])
        accuracy = f", {row['eval_accuracy']:.1%} as asked" if "eval_accuracy" in row else ""
        yield f"Best samples at step {row['step']:,}: Frechet distance {distance:.2f}{accuracy}."


def _health(rows: list[dict[str, Any]]) -> Iterator[str]:
    newest, told = rows[-1], []
    if newest["spikes"]:
        told.append(f"{newest['spikes']} spikes of the loss")
    if newest.get("skipped_steps"):
        told.append(f"{newest['skipped_steps']} steps skipped")
    waits = newest["seconds"].get("data", 0) / sum(newest["seconds"].values())
    if waits > WAITING:
        told.append(f"{waits:.0%} of the time waits for data (more data.num_workers, or encoded latents)")
    yield f"To look at: {'; '.join(told)}." if told else "Nothing unusual: no spikes, no waits."
