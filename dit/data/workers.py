"""Images read and decoded by worker processes, batch by batch, in the order that is asked for.

    with ImageReader(images, num_workers=4) as reader:
        for batch in reader.read([Request.plain(range(32)), Request.plain(range(32, 64))]):
            batch.pixels            # (32, H, W, channels) uint8

Workers are forks: what a source holds is shared, be it a table of a million files or a function of a user's own.
"""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from dit.data.image_source import ImageSource
from dit.data.request import Request
from dit.errors import DitError
from dit.failpoints import failpoint
from dit.signals import STOP_SIGNALS, end_with_parent

PREFETCHED = 2
"""Batches that each worker reads ahead."""
_IDLE = -1
_DYING_SECONDS = 1.0
"""For how long a worker may have closed its connections before the system reports that it ended."""


@dataclass(frozen=True)
class ImageBatch:
    """What was read for a request."""

    rows: tuple[int, ...]
    """(B,) the images that are good."""
    pixels: Tensor
    """(B, H, W, channels) uint8."""
    problems: tuple[str, ...]
    """What is wrong with each of the others."""


class ImageReader:
    """Reads batches of a source while the block runs.

    Args:
        images: the source.
        num_workers: processes that read ahead; 0: this process reads each batch when it is asked for.
        num_ahead: least number of batches that are read ahead by all of them.
    """

    def __init__(self, images: ImageSource, num_workers: int, num_ahead: int = 0) -> None:
        self._images, self._num_workers = images, num_workers
        self._prefetched = max(PREFETCHED, -(-num_ahead // max(1, num_workers)))
        self._worker = _Worker(images, num_workers)
        self._reading: Generator[ImageBatch] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.close()

    def read(self, requests: Iterable[Request]) -> Iterator[ImageBatch]:
        """Yield batches in order; `requests` is asked for the next one as early as a worker can begin with it.

        Raises:
            DitError: a worker died; names the image that it was at.
        """
        self._reading = self._read(requests)
        return self._reading

    def _read(self, requests: Iterable[Request]) -> Generator[ImageBatch]:
        with warnings.catch_warnings(), _blocked_signals(), _kept_child_handler():
            warnings.simplefilter("ignore")  # more workers than cores make sense, and forks of these need no threads
            iterator = iter(self._loader(requests))
        try:
            yield from iterator
        except (RuntimeError, EOFError, OSError) as error:  # the last two where it died with a batch on its way
            if dead := self._rows_of_the_dead(error):
                raise self._death(dead, error) from error
            raise
        finally:
            del iterator  # ends the workers now, whoever may hold this frame
            self._kill_workers()  # that are left, in a read that hangs

    def _rows_of_the_dead(self, error: Exception) -> list[int]:
        """Return the images at which workers died; after a broken connection one may still be about to."""
        deadline = time.monotonic() + (0 if isinstance(error, RuntimeError) else _DYING_SECONDS)
        while not (dead := self._worker.rows_of_the_dead()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return dead

    def _death(self, dead: Sequence[int], error: Exception) -> DitError:
        """Return what to say of dead workers; the others, which may wait for ever for a lock of theirs, are ended."""
        self._kill_workers()
        reason = str(error).strip() or type(error).__name__
        names = ", ".join(self._images.name(row) for row in dead if row != _IDLE) or "data.source"
        return DitError(
            f"{names}: a worker process died while it read this ({reason}); look at the file, and at the memory of "
            "the machine"
        )

    def _kill_workers(self) -> None:
        for child in multiprocessing.active_children():
            if child.pid in self._worker.processes:
                child.kill()

    def _loader(self, requests: Iterable[Request]) -> DataLoader[ImageBatch]:
        workers = {"prefetch_factor": self._prefetched, "multiprocessing_context": "fork"} if self._num_workers else {}
        return DataLoader(
            self._worker,
            sampler=requests,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=self._num_workers,
            worker_init_fn=_end_with_reader,
            generator=torch.Generator(),  # the program's own is left alone
            **workers,
        )


class _Worker(Dataset[ImageBatch]):
    """What a worker does; it notes its process and the image that it is at where its parent sees them."""

    def __init__(self, images: ImageSource, num_workers: int) -> None:
        self._images = images
        self.processes = multiprocessing.RawArray("q", max(1, num_workers))
        self._rows = multiprocessing.RawArray("q", [_IDLE] * max(1, num_workers))

    def __getitem__(self, request: Request) -> ImageBatch:
        info = get_worker_info()
        number = info.id if info else 0
        self.processes[number] = os.getpid()
        rows, pixels, problems = [], [], []
        for place, row in enumerate(request.indices.tolist()):
            self._rows[number] = row
            failpoint(f"read:{row}")
            try:
                pixels.append(self._read(request, place))
                rows.append(row)
            except DitError as error:
                problems.append(str(error))
        self._rows[number] = _IDLE
        stacked = torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0, dtype=torch.uint8)
        return ImageBatch(tuple(rows), stacked, tuple(problems))

    def _read(self, request: Request, number: int) -> np.ndarray:
        row = int(request.indices[number])
        if request.places is None:
            pixels = self._images.read(row)
        else:
            assert self._images.read_at is not None
            pixels = self._images.read_at(row, float(request.places[number]))
        return pixels[:, ::-1] if request.flips[number] else pixels

    def rows_of_the_dead(self) -> list[int]:
        """Return the images at which workers died, `_IDLE` for one that had none."""
        alive = {0, os.getpid(), *(child.pid for child in multiprocessing.active_children())}
        return [row for pid, row in zip(self.processes, self._rows, strict=True) if pid not in alive]


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block stop signals, for ever in processes that start in this block: their parent ends them.

    A terminal and a cluster's scheduler signal to all processes at once.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextmanager
def _kept_child_handler() -> Iterator[None]:
    """Keep torch's handler of SIGCHLD away, which raises wherever the main thread is when a worker dies.

    The reader sees it within seconds anyway.
    """
    previous = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # elsewhere torch sets none
            signal.signal(signal.SIGCHLD, previous)


def _end_with_reader(number: int) -> None:
    """Let a worker end with the process that it reads for, whose locks it inherited."""
    end_with_parent(signal.SIGKILL)


def _unchanged(batch: Any) -> Any:
    return batch
