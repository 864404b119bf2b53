"""The folder in which a cache grows, part by part, until it is moved to its place.

    part-00000.safetensors   a part, whole or begun: as far as it was encoded when it was saved
    part-00000.json          its report, of a whole one; these vanish once index.json holds them

Folders are looked at by listing them, which makes a network file system forget what it remembers of them.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit.errors import DitError
from dit.failpoints import failpoint
from dit.files import TEMPORARY_PREFIX, fsync_folder, read_json, write_json
from dit.latents.plan import Plan
from dit.latents.shards import INDEX_NAME, PartEntry, PartReport, read_part, write_part
from dit.latents.skipped import check_skipped
from dit.validation import validate

_REPORT = re.compile(r"part-(\d+)\.json")
_LEFT_OVER = re.compile(rf"{_REPORT.pattern}|{re.escape(TEMPORARY_PREFIX)}(part|index).*")


@dataclass
class Part:
    """A part while it is encoded."""

    number: int
    rows: range
    moments: list[Tensor] = field(default_factory=list)
    """(n, V, M, h, w) each, in the type of storage."""
    kept: list[int] = field(default_factory=list)
    """Rows of the moments."""
    skipped: list[str] = field(default_factory=list)
    """Messages about the others."""

    @property
    def num_done(self) -> int:
        """Number of its images that were encoded or left out."""
        return len(self.kept) + len(self.skipped)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.num_done == len(self.rows)


class WorkingFolder:
    """The parts of a plan that are there."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.path = plan.working

    def is_finished(self) -> bool:
        """Tell whether the cache is in its place."""
        return INDEX_NAME in _names_in(self._plan.target)

    def finished(self) -> set[int]:
        """Return the numbers of the parts that are whole."""
        return {int(match[1]) for match in map(_REPORT.fullmatch, _names_in(self.path)) if match}

    def num_done(self) -> dict[int, int]:
        """Return part -> number of its images that are done, of parts that are whole or begun."""
        names, whole = _names_in(self.path), self.finished()
        begun = {number for number in range(len(self._plan.parts)) if self._file(number).name in names} - whole
        return {number: len(self._plan.parts[number]) for number in whole} | {
            number: self.begin(number).num_done for number in begun
        }

    def begin(self, number: int) -> Part:
        """Return a part, as far as it was saved.

        Raises:
            DitError: what was saved is damaged.
        """
        part = Part(number, self._plan.parts[number])
        if self._file(number).is_file():
            saved = read_part(self._file(number), fingerprint=self._plan.identity.fingerprint)
            part.moments, part.kept, part.skipped = [saved.moments], saved.rows.tolist(), list(saved.skipped)
        return part

    def save(self, part: Part) -> None:
        """Write a part as far as it is encoded, and its report if it is whole."""
        entry = self._write(part) if part.kept else None
        failpoint(f"encode:part-{part.number:05}:{'whole' if part.is_whole else 'begun'}")
        if part.is_whole:
            report = PartReport(entry=entry, skipped=tuple(part.skipped))
            write_json(self._report(part.number), report.model_dump(mode="json"))
            failpoint(f"encode:part-{part.number:05}:reported")

    def finish(self) -> None:
        """Write the index, and move the folder to its place.

        Raises:
            DitError: more images were left out than data.max_skipped allows, or all of them.
        """
        plan = self._plan
        reports = [
            validate(PartReport, read_json(path), origin=str(path))
            for path in map(self._report, range(len(plan.parts)))
        ]
        skipped = (*plan.images.rejected, *(message for report in reports for message in report.skipped))
        check_skipped(skipped, len(plan.images) + len(plan.images.rejected), plan.data)
        entries = tuple(report.entry for report in reports if report.entry)
        if plan.split == "train" and not entries:
            raise DitError(f"data.source {plan.data.source!r}: expected at least one training image, found none")
        write_json(self.path / INDEX_NAME, plan.index(entries, skipped).model_dump(mode="json"))
        os.replace(self.path, plan.target)  # from then on the cache is finished
        fsync_folder(plan.target.parent)
        failpoint("encode:moved")
        self.tidy()

    def tidy(self) -> None:
        """Remove from a finished cache the reports, and what a process left that was killed while it wrote."""
        for name in _names_in(self._plan.target):
            if _LEFT_OVER.fullmatch(name):
                (self._plan.target / name).unlink(missing_ok=True)

    def _write(self, part: Part) -> PartEntry:
        plan = self._plan
        labels = torch.from_numpy(plan.images.labels[part.kept].astype(np.int64))
        moments, rows, fingerprint = torch.cat(part.moments), torch.tensor(part.kept), plan.identity.fingerprint
        return write_part(self._file(part.number), moments, labels, rows, fingerprint=fingerprint, skipped=part.skipped)

    def _file(self, number: int) -> Path:
        return self.path / f"part-{number:05}.safetensors"

    def _report(self, number: int) -> Path:
        return self.path / f"part-{number:05}.json"


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
