"""The files of a run folder, by name and content. Free of torch.

    recipe.yaml    the recipe, with what the data decided filled in
    run.json       `RunFacts`: the network, the codec, the classes, and what a resumed run must share with its start
    status.json    state, step and time
    metrics.jsonl  one JSON object per logged step
    checkpoints/   step-XXXXXXXX/{model, ema, ...}.safetensors, state.json, manifest.json
    snapshots/     averages for `dit ema`, in the same format
    best/          the average whose samples were the best, likewise
    samples/ export/ heartbeats/ tensorboard/ lock

An exported folder has recipe.yaml and metrics.jsonl of the same names.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from dit.errors import DitError
from dit.files import read_json, write_json, write_text
from dit.latents.config import LatentsDescription
from dit.plugins import MadeWith
from dit.validation import validate

RECIPE_NAME = "recipe.yaml"
METRICS_NAME = "metrics.jsonl"
FACTS_NAME = "run.json"
HEADS = "heads"
"""File, in a checkpoint, of the parameters that auxiliary losses train along."""


class Change(BaseModel):
    """A field that was changed on purpose in the middle of a run."""

    step: int
    """Optimizer steps made before."""
    field: str
    """Dotted name."""
    old: Any
    """Its value before."""
    new: Any
    """Its value from there on."""


class RunFacts(MadeWith):
    """The content of run.json."""

    code_version: str
    """Version of this package that began the run."""
    model_arguments: dict[str, Any]
    """All arguments of the network."""
    codec: LatentsDescription
    """Description of the latents."""
    id2label: dict[str, str]
    """Class id, in decimal, -> class name."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Dotted field -> value: what must be the same when the run is resumed."""
    changes: list[Change] = Field(default_factory=list)
    """What of it was changed on purpose, in order; `facts` holds the new values."""


class RunFiles:
    """Paths of the files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / RECIPE_NAME
        self.facts = self.path / FACTS_NAME
        self.status = self.path / "status.json"
        self.metrics = self.path / METRICS_NAME
        self.lock = self.path / "lock"
        self.checkpoints = self.path / "checkpoints"
        self.snapshots = self.path / "snapshots"
        self.best = self.path / "best"
        self.samples = self.path / "samples"
        self.heartbeats = self.path / "heartbeats"
        self.export = self.path / "export"

    def read_facts(self) -> RunFacts:
        """Read run.json.

        Raises:
            DitError: it is missing or damaged; the field is named.
        """
        return validate(RunFacts, read_json(self.facts), origin=str(self.facts))

    def write_facts(self, facts: RunFacts) -> None:
        """Write run.json."""
        write_json(self.facts, facts.model_dump())


def is_run(folder: str | Path) -> bool:
    """Tell whether a folder is a run's."""
    return RunFiles(folder).facts.is_file()


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one line to metrics.jsonl."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; a last line that a killed process left half written is not a row.

    Raises:
        DitError: another line is not a row.
    """
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append({"step": int(row["step"])} | row)
        except (ValueError, TypeError, KeyError):
            raise DitError(f"{path}:{number}: expected a JSON object with a step, found {line[:60]!r}") from None
    return rows


def cut_rows(path: Path, step: int) -> None:
    """Remove the rows after `step`, which a resumed run will write again."""
    kept = [row for row in read_rows(path) if row["step"] <= step]
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept))
