"""The speed of an encoding, from its first images that are missing. Nothing is written."""

import time
from dataclasses import dataclass
from itertools import islice

from dit.data.request import Request
from dit.data.workers import ImageReader
from dit.errors import DitError
from dit.latents.encode_batch import encode_batch
from dit.latents.plan import Plan
from dit.latents.working import WorkingFolder

NUM_IMAGES = 100


@dataclass(frozen=True)
class Trial:
    """How far an encoding is, and how fast it goes."""

    num_done: int
    """Images that are encoded."""
    images_per_second: float | None
    """Of one process; None where nothing is missing."""


def measure(plan: Plan) -> Trial:
    """Read and encode about a hundred images after a first batch, which starts everything.

    Raises:
        DitError: an image can't be read or encoded.
    """
    working, size = WorkingFolder(plan), plan.latents.batch_size
    if working.is_finished():
        return Trial(len(plan.images), None)
    done = working.num_done()
    missing = (row for number, rows in enumerate(plan.parts) for row in rows[done.get(number, 0) :])
    wanted = list(islice(missing, size + NUM_IMAGES))
    requests = list(Request.plain(wanted).split(size))
    began, num_encoded = time.perf_counter(), 0
    with ImageReader(plan.images, min(plan.data.num_workers, len(requests))) as reader:
        for number, batch in enumerate(reader.read(requests)):
            if batch.problems and plan.data.on_error == "stop":
                raise DitError(batch.problems[0])
            if batch.rows:
                encode_batch(batch, plan)
            if number == 0 and len(requests) > 1:
                began = time.perf_counter()
            else:
                num_encoded += len(requests[number].indices)
    speed = num_encoded / (time.perf_counter() - began) if num_encoded else None
    return Trial(sum(done.values()), speed)
