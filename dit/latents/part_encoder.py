"""Parts encoded by this process: images are read, encoded and written at the same time, across parts."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain

from dit.data.request import Request
from dit.data.workers import ImageBatch, ImageReader
from dit.display import Progress
from dit.errors import DitError, Preempted
from dit.latents.claims import Claims
from dit.latents.encode_batch import encode_batch
from dit.latents.plan import Plan
from dit.latents.skipped import check_skipped
from dit.latents.working import Part, WorkingFolder
from dit.latents.writer import Writer
from dit.launcher import num_processes, rank
from dit.signals import StopSignals

SAVE_SECONDS = 30.0
"""A part that takes longer is saved as it grows: no more than this is lost to a kill."""
WORTHWHILE = 4
"""Batches that a worker process must have to read before it is started."""


class PartEncoder:
    """Encodes the parts that no other process has."""

    def __init__(
        self, plan: Plan, working: WorkingFolder, claims: Claims, progress: Progress, signals: StopSignals
    ) -> None:
        self._plan, self._working, self._claims = plan, working, claims
        self._progress, self._signals = progress, signals
        self._finished, self._done = working.finished(), working.num_done()
        self._skipped: list[str] = []
        self._parts: deque[Part] = deque()  # claimed, in the order in which they are read
        self._writer = Writer()
        self._saved = 0.0

    def encode_missing(self) -> bool:
        """Encode what is missing and not another process's, and tell whether there was anything.

        Raises:
            DitError: an image can't be read or encoded.
            Preempted: a signal came; what was encoded is saved.
        """
        batches = self._batches()
        first = next(batches, None)
        if first is None:
            return False
        with ImageReader(self._plan.images, self._num_workers()) as reader, Writer() as self._writer:
            self._saved = time.monotonic()
            for batch in reader.read(chain([first], batches)):
                self._add(batch)
                self._save()
        return True

    def look(self) -> bool:
        """Count what other processes have finished, end where a signal came, and tell whether nothing is missing."""
        self._finished = self._working.finished()
        self._done |= {number: len(self._plan.parts[number]) for number in self._finished}
        self._progress.reach(sum(self._done.values()))
        if self._signals.received:
            raise Preempted(
                f"stopped by {self._signals.received.name} with {sum(self._done.values()):,} of "
                f"{len(self._plan.images):,} images encoded; the same command goes on"
            )
        return len(self._finished) == len(self._plan.parts)

    def _num_workers(self) -> int:
        missing = len(self._plan.images) - sum(self._done.values())
        return min(self._plan.data.num_workers, missing // (WORTHWHILE * self._plan.latents.batch_size))

    def _batches(self) -> Iterator[Request]:
        """Claim parts as their images are asked for, and yield their batches."""
        size = self._plan.latents.batch_size
        for number in self._order():
            if number in self._finished or not self._claims.take(number):
                continue
            part = self._missing_part(number)
            if part is None:
                self._claims.release(number)
                continue
            self._parts.append(part)
            yield from Request.plain(part.rows[part.num_done :]).split(size)

    def _order(self) -> Iterator[int]:
        """Begin where no other process of the launcher begins."""
        count = len(self._plan.parts)
        first = rank() * count // num_processes()
        yield from (*range(first, count), *range(first))

    def _missing_part(self, number: int) -> Part | None:
        """Return a part as far as it is encoded, or None where nothing is missing."""
        if number in self._working.finished() or self._working.is_finished():
            return None
        part = self._working.begin(number)
        if part.is_whole:  # it was cut off before its report
            self._working.save(part)
            return None
        return part

    def _add(self, batch: ImageBatch) -> None:
        """Encode a batch of the first part."""
        part = self._parts[0]
        if batch.problems:
            self._skip(batch.problems)
        if batch.rows:
            part.moments.append(encode_batch(batch, self._plan))
        part.kept += batch.rows
        part.skipped += batch.problems
        self._done[part.number] = part.num_done
        self._progress.reach(sum(self._done.values()))

    def _skip(self, problems: tuple[str, ...]) -> None:
        data, images = self._plan.data, self._plan.images
        if data.on_error == "stop":
            raise DitError(problems[0])
        self._skipped += problems
        check_skipped([*images.rejected, *self._skipped], len(images) + len(images.rejected), data)

    def _save(self) -> None:
        """Write the first part if it is whole, or is due; all that there is if a signal came."""
        part = self._parts[0]
        if part.is_whole:
            self._parts.popleft()
            self._writer.start(partial(self._finish, part))
        elif self._signals.received:
            self._writer.start(partial(self._working.save, part))
        elif time.monotonic() - self._saved > SAVE_SECONDS and not self._writer.is_busy:
            copy = replace(part, moments=[*part.moments], kept=[*part.kept], skipped=[*part.skipped])
            self._writer.start(partial(self._working.save, copy))
        else:
            return
        self._saved = time.monotonic()
        if self._signals.received:
            self._writer.wait()
        self.look()

    def _finish(self, part: Part) -> None:
        self._working.save(part)
        self._claims.release(part.number)
