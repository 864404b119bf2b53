"""What training asks a data set for, and a reader of stored moments that is two batches ahead of it.

A data set to train on offers `read(requests) -> Generator[Rows]`: it answers in the order of the requests, and takes
the next ones early, to work on them in the background. `close()` of the generator ends that.

    for rows in dataset.read(requests):
        rows.moments            # (B, M, h, w), of rows.request.indices

B samples of a batch; M moments of h x w positions.
"""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dit.data.request import Request

NUM_AHEAD = 2
"""Batches that are read before they are asked for."""
NUM_THREADS = 2
"""More of them only wait for each other: they hold the interpreter between two reads."""
PIECE = 128
"""Samples that a thread reads at a time: a batch is shared out."""


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
        """Read some samples into moments (B, M, h, w) and labels (B,), and refuse what is not finite."""
        ...


def read_ahead(dataset: StoredMoments, requests: Iterable[Request], *, pin_memory: bool = False) -> Generator[Rows]:
    """Answer requests in order, with threads that are `NUM_AHEAD` of them ahead.

    Args:
        dataset: what is read.
        requests: the batches; the next one is asked for when it is begun.
        pin_memory: whether moments are in memory from which a GPU copies by itself.

    Raises:
        DitError: moments can't be read or are not finite; when their batch is asked for.
    """
    pool = ThreadPoolExecutor(NUM_THREADS, "read_ahead")
    begun: deque[tuple[Rows, list[Future[None]]]] = deque()

    def begin(request: Request) -> None:
        shape = (len(request.indices), *dataset.moments_shape)
        moments = torch.empty(shape, dtype=dataset.storage, pin_memory=pin_memory)
        labels = torch.empty(len(moments), dtype=torch.int64)
        pieces = [slice(start, start + PIECE) for start in range(0, len(moments), PIECE)]
        reading = [
            pool.submit(dataset.fill, moments[s], labels[s], request.indices[s], request.flips[s]) for s in pieces
        ]
        begun.append((Rows(request, moments, labels), reading))

    def finish() -> Rows:
        rows, reading = begun.popleft()
        for piece in reading:
            piece.result()
        return rows

    try:
        for request in requests:
            begin(request)
            if len(begun) > NUM_AHEAD:
                yield finish()
        while begun:
            yield finish()
    finally:
        pool.shutdown(cancel_futures=True)
