"""What one optimizer step is worth knowing, summed over samples, micro-batches and processes.

Everything that the host wants to know of a step - loss, its parts, loss by time, whether a number was not finite,
whether a signal came - travels in one small vector, so that there is one exchange and one read per step. On a GPU the
read is one step late, when the numbers have long arrived, so that the host does not wait.

B samples, T parts of the loss, K time buckets.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from dit.device import to_device
from dit.diffusion.process import Losses


@dataclass(frozen=True)
class StepTotals:
    """The entries of the vector, in its order; of an unpacked vector they are views, so that filling one fills it."""

    num_bad: Tensor
    """() samples whose loss, or a part of it, is not finite."""
    num_stops: Tensor
    """() processes that got a signal to stop."""
    grad_norm: Tensor
    """() norm of the gradient before clipping."""
    loss: Tensor
    """() sum of the losses."""
    terms: Tensor
    """(T,) sums of the parts of the loss."""
    loss_by_time: Tensor
    """(K,) sums of the losses by time."""
    count_by_time: Tensor
    """(K,) samples by time."""

    @classmethod
    def of_micro_batch(cls, losses: Losses, num_buckets: int) -> Self:
        """Return the totals of one micro-batch, on the device of its losses; signals and norm are still 0."""
        loss = losses.loss.detach()  # (B,)
        parts = [term.detach().to(loss.dtype) for term in losses.terms.values()]  # each (B,)
        is_finite = torch.stack([loss, *parts]).isfinite().all(0)  # (B,)
        loss_by_time, count_by_time = by_time(losses, num_buckets)
        return cls(
            num_bad=(~is_finite).sum().to(loss.dtype),
            num_stops=loss.new_zeros(()),
            grad_norm=loss.new_zeros(()),
            loss=loss.sum(),
            terms=torch.stack([part.sum() for part in parts]) if parts else loss.new_zeros(0),
            loss_by_time=loss_by_time,
            count_by_time=count_by_time,
        )

    def pack(self) -> Tensor:
        """Return the vector: (4 + T + 2 K,)."""
        return torch.cat([getattr(self, field.name).reshape(-1) for field in fields(self)])

    @classmethod
    def unpack(cls, vector: Tensor, num_buckets: int) -> Self:
        """Return the entries of a vector with K time buckets."""
        num_terms = len(vector) - 4 - 2 * num_buckets
        fixed, terms, loss_by_time, count_by_time = vector.split([4, num_terms, num_buckets, num_buckets])
        num_bad, num_stops, grad_norm, loss = fixed.unbind()
        return cls(num_bad, num_stops, grad_norm, loss, terms, loss_by_time, count_by_time)


def by_time(losses: Losses, num_buckets: int) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses and the number of samples in each of K equal intervals of t: (K,), (K,)."""
    loss = losses.loss.detach()
    bucket = to_device((losses.t * num_buckets).long().clamp(0, num_buckets - 1), loss.device)  # (B,)
    # A product with a one-hot matrix rather than index_add_, whose order of summation varies on a GPU.
    membership = torch.nn.functional.one_hot(bucket, num_buckets).to(loss.dtype)  # (B, K)
    return loss @ membership, membership.sum(0)


@dataclass(frozen=True)
class StepMetrics:
    """The totals of one optimizer step on the host, and what they are totals of."""

    step: int
    """The step that they belong to, from 0."""
    num_samples: int
    """Samples of the step: the global batch size."""
    terms: tuple[str, ...]
    """Names of the parts of the loss."""
    totals: StepTotals
    """The totals, on the CPU."""

    @property
    def is_bad(self) -> bool:
        """Whether a loss or the gradient norm was not finite in any process."""
        return bool(self.totals.num_bad > 0) or not self.totals.grad_norm.isfinite()

    @property
    def bad_terms(self) -> list[str]:
        """Names of the parts of the loss that are not finite."""
        is_bad = (~self.totals.terms.isfinite()).tolist()
        return [name for name, bad in zip(self.terms, is_bad, strict=True) if bad]

    @property
    def is_stop(self) -> bool:
        """Whether any process got a signal to stop."""
        return bool(self.totals.num_stops > 0)

    @property
    def grad_norm(self) -> float:
        """Norm of the gradient before clipping."""
        return self.totals.grad_norm.item()

    @property
    def loss(self) -> float:
        """Mean loss of the step."""
        return self.totals.loss.item() / self.num_samples
