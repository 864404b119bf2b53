"""What training asks a data set for, and a reader of stored moments that is two batches ahead of it.

A data set to train on offers `read(requests) -> Generator[Rows]`: it answers in the order of the requests, and takes
the next ones early, to work on them in the background. `close()` of the generator ends that.

    for rows in dataset.read(requests):
        rows.moments            # (B, M, h, w), of rows.request.indices

B samples of a batch; M moments of h x w positions.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dit.data.request import Request

NUM_AHEAD = 2
"""Batches that are read before they are asked for."""
NUM_THREADS = 8
"""Among which a batch is shared out where reads are slow. From memory one alone is faster: several would wait for each
other, since each holds the interpreter between two reads."""
CACHE_LINE = 64
"""Bytes."""
SLOW = 1e-4
"""Seconds for a sample, beyond which reads wait for a disk or a network."""


@dataclass(frozen=True)
class Rows:
    """The answer to a request."""

    request: Request
    """What was asked for."""
    moments: Tensor
    """(B, M, h, w), in the type of storage."""
    labels: Tensor
    """(B,) int64."""
    images: Tensor | None = None
    """(B, channels, H, W) uint8, where they are asked for and there; beside the moments."""
    features: Tensor | None = None
    """(B, D, h, w) of a frozen encoder, in the type of storage, where they are asked for."""


class StoredMoments(Protocol):
    """Moments that can be read by index, by several threads at once."""

    moments_shape: tuple[int, ...]
    """M, h, w."""
    storage: torch.dtype
    """Type of the stored moments."""

    def fill(self, moments: Tensor, labels: Tensor, indices: np.ndarray, flips: np.ndarray) -> None:
        """Read some samples into moments (B, M, h, w) and labels (B,)."""
        ...

    def check(self, moments: Tensor, indices: np.ndarray) -> None:
        """Refuse moments (B, M, h, w) that are not finite."""
        ...


def read_ahead(dataset: StoredMoments, requests: Iterable[Request], *, pin_memory: bool = False) -> Generator[Rows]:
    """Answer requests in order, with threads that are `NUM_AHEAD` of them ahead.

    One reads, or several where reads are slow; another checks what was read while the next batch is.

    Args:
        dataset: what is read.
        requests: the batches; the next one is asked for when it is begun.
        pin_memory: whether moments are in memory from which a GPU copies by itself.

    Raises:
        DitError: moments can't be read or are not finite; when their batch is asked for.
    """
    one, several, checker = (ThreadPoolExecutor(number, "read_ahead") for number in (1, NUM_THREADS, 1))
    begun: deque[Future[tuple[Rows, float]]] = deque()
    is_slow = False

    def fill(request: Request, rows: Rows | None, piece: slice) -> tuple[Rows, float]:
        started = perf_counter()
        rows = rows or empty(request)
        dataset.fill(rows.moments[piece], rows.labels[piece], request.indices[piece], request.flips[piece])
        return rows, perf_counter() - started

    def empty(request: Request) -> Rows:
        moments = _empty((len(request.indices), *dataset.moments_shape), dataset.storage, pin_memory=pin_memory)
        return Rows(request, moments, torch.empty(len(moments), dtype=torch.int64))

    def begin(request: Request) -> None:
        if is_slow:
            rows = empty(request)
            bounds = [len(rows.labels) * i // NUM_THREADS for i in range(NUM_THREADS + 1)]
            pieces = [several.submit(fill, request, rows, slice(*piece)) for piece in pairwise(bounds)]
        else:  # memory is taken when it is read into, so that less of it is in use, and in the cache
            pieces = [one.submit(fill, request, None, slice(None))]
        begun.append(checker.submit(check, pieces))

    def check(pieces: Sequence[Future[tuple[Rows, float]]]) -> tuple[Rows, float]:
        filled = [piece.result() for piece in pieces]
        rows, seconds = filled[0][0], fmean(seconds for _, seconds in filled)
        dataset.check(rows.moments, rows.request.indices)
        return rows, seconds

    def finish() -> Rows:
        nonlocal is_slow
        rows, seconds = begun.popleft().result()
        is_slow = seconds > SLOW * len(rows.labels)
        return rows

    try:
        for request in requests:
            begin(request)
            if len(begun) > NUM_AHEAD:
                yield finish()
        while begun:
            yield finish()
    finally:
        for pool in (one, several, checker):
            pool.shutdown(cancel_futures=True)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, *, pin_memory: bool) -> Tensor:
    """Return memory to read into: NumPy's, which for large arrays is in huge pages, unless a GPU copies from it.

    It begins where a cache line does, which NumPy's does not by itself: into some places beside that the kernel takes
    twice as long to copy.
    """
    if pin_memory:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    num_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(num_bytes + CACHE_LINE, dtype=np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return torch.from_numpy(memory[start : start + num_bytes]).view(dtype).view(shape)
