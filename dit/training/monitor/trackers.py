"""Experiment trackers, which receive metrics.jsonl's numbers, the previews and the recipe: Accelerate's, by name.

A run is called by its folder's name: TensorBoard's files lie in the folder, the others keep a run of their own for each
start in the project PROJECT, grouped where they can.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dit.config import Recipe, dump_recipe
from dit.display import warn

PROJECT = "dit"


class Trackers:
    """The trackers of a run; one that fails is reported once and left out from then on.

    Args:
        names: of the trackers, as in the recipe's `train.trackers`.
        folder: of the run.
        recipe: of the run.
        first_step: after which it goes on; 0 for a new one.
    """

    def __init__(self, names: Sequence[str], folder: Path, recipe: Recipe, *, first_step: int) -> None:
        self._folder, self._trackers = folder, dict[str, Any]()
        for name in names:
            with self._tolerated(name, "could not be started"):
                self._trackers[name] = _start(name, folder, recipe, first_step)

    def log(self, row: dict[str, Any]) -> None:
        """Pass the numbers of a row on, those of a list or an object by one name each, and its preview."""
        values, picture = dict(_flat(row)), row.get("preview")
        for name, tracker in list(self._trackers.items()):
            with self._tolerated(name, "failed"):
                tracker.log(values, step=row["step"])
                if picture is not None:
                    _show(tracker, self._folder / picture, row["step"])

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


def _start(name: str, folder: Path, recipe: Recipe, first_step: int) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, TensorBoardTracker

    if name == "tensorboard":
        # Rows after the checkpoint that is resumed from are hidden, for they will come again.
        tracker = TensorBoardTracker("tensorboard", logging_dir=folder, purge_step=first_step + 1)
        tracker.start()
        tracker.tracker.add_text("recipe", f"```yaml\n{dump_recipe(recipe)}```", first_step)
        return tracker
    places = {"wandb": {"dir": str(folder)}, "trackio": {}}[name]
    tracker = LOGGER_TYPE_TO_CLASS[name](
        PROJECT, name=folder.name, group=folder.name, config=recipe.model_dump(mode="json"), **places
    )
    tracker.start()
    return tracker


def _show(tracker: Any, path: Path, step: int) -> None:
    """Pass a picture on; each tracker has its own way."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    if tracker.name == "tensorboard":
        tracker.log_images({"preview": np.asarray(picture)[None]}, step, dataformats="NHWC")
    elif tracker.name == "wandb":
        tracker.log_images({"preview": [picture]}, step)
    else:
        import trackio  # pyright: ignore[reportMissingImports]

        tracker.log({"preview": trackio.Image(picture)}, step)


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        items = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else None
        if items is not None:
            yield from _flat({str(inner): entry for inner, entry in items.items()}, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield prefix + key, value
