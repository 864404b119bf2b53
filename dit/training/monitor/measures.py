"""What one optimizer step is worth knowing, as one small vector: summed over samples, micro-batches and processes.

Everything that the host wants to know of a step - loss, its parts, loss by time, whether a number was not finite,
whether a signal came - travels in this vector, so that there is one exchange and one read per step. On a GPU the read
is one step late, when the numbers have long arrived: the host never waits for the device.

B samples, K time buckets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dit.diffusion.process import Losses

FIXED = ("bad", "stop", "norm", "loss")
"""First entries: samples whose loss is not finite, processes that got a signal, gradient norm, sum of losses."""


@dataclass(frozen=True)
class Measures:
    """The measures of one optimizer step, on the host."""

    step: int
    """The step that they belong to, from 0."""
    num_samples: int
    """Samples of the step: the global batch size."""
    values: Sequence[float]
    """The vector: FIXED, then the parts of the loss, then K sums of losses and K counts by time."""
    terms: tuple[str, ...]
    """Names of the parts of the loss."""

    @property
    def bad(self) -> bool:
        """Whether a loss or the gradient norm was not finite in any process."""
        return self.values[0] > 0 or not math.isfinite(self.values[2])

    @property
    def stop(self) -> bool:
        """Whether any process got a signal to stop."""
        return self.values[1] > 0

    @property
    def grad_norm(self) -> float:
        """Norm of the gradient before clipping."""
        return self.values[2]

    @property
    def loss(self) -> float:
        """Mean loss of the step."""
        return self.values[3] / self.num_samples


def measure(losses: Losses, num_buckets: int) -> Tensor:
    """Return one micro-batch's part of the vector, on the device of the losses; `stop` and `norm` are still 0."""
    loss = losses.loss.detach()  # (B,)
    terms = [term.detach().sum() for term in losses.terms.values()]
    fixed = [(~loss.isfinite()).sum(), loss.new_zeros(()), loss.new_zeros(()), loss.sum()]
    return torch.cat([torch.stack([value.to(loss.dtype) for value in [*fixed, *terms]]), *by_time(losses, num_buckets)])


def by_time(losses: Losses, num_buckets: int) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses and the number of samples in each of K equal intervals of t: (K,), (K,)."""
    loss = losses.loss.detach()
    bucket = (losses.t * num_buckets).long().clamp(0, num_buckets - 1).to(loss.device)  # (B,)
    # A product with a one-hot matrix rather than index_add_, whose order of summation varies on a GPU.
    membership = torch.nn.functional.one_hot(bucket, num_buckets).to(loss.dtype)  # (B, K)
    return loss @ membership, membership.sum(0)


class Pending:
    """A vector on its way from the device to the host."""

    def __init__(self, vector: Tensor) -> None:
        self._event = None
        self._vector = vector
        if vector.device.type == "cuda":
            self._vector = torch.empty_like(vector, device="cpu", pin_memory=True).copy_(vector, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        """Return the values, waiting for them if need be."""
        if self._event is not None:
            self._event.synchronize()
        return self._vector.tolist()
