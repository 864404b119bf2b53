"""One optimizer step: draw the micro-batches, accumulate gradients, exchange, clip, check, update.

A step in which any process met a loss or a gradient that is not finite updates nothing. Where the optimizer's kernel
can be told so on the device (fused AdamW), the host learns of it one step later and need not wait; until then every
further update is held back too.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from dit.device import Pending, to_device
from dit.diffusion.process import Losses
from dit.failpoints import failpoint
from dit.signals import StopSignals
from dit.training.batch import Batch, BatchSource
from dit.training.monitor.step_totals import StepMetrics, StepTotals
from dit.training.objectives.objective import Objective
from dit.training.ranks.processes import Processes
from dit.training.ranks.sharding import is_sharded, own_part

SMALL_NORM = 1e-6
"""Keeps the scale of a clipped gradient finite where there is none."""


@dataclass
class Attempt:
    """A step whose metrics are on their way, with what a dump would need."""

    step: int
    """The step, from 0."""
    pending: Pending
    """Its vector of totals."""
    parts: list[tuple[Batch, Losses]]
    """This process's micro-batches and their losses."""


@dataclass
class Stepper:
    """Makes optimizer steps."""

    objective: Objective
    """The network as prepared by Accelerate, and the losses that it is trained by."""
    source: BatchSource
    """Makes batches."""
    optimizer: Optimizer
    """Updates the parameters."""
    processes: Processes
    """Who takes part."""
    signals: StopSignals
    """Whether to stop."""
    num_buckets: int
    """Time buckets of the loss."""
    max_grad_norm: float | None = None
    """Bound of the gradient norm."""
    skipped: int = 0
    """Steps that the fp16 scaler skipped because the scaled gradient overflowed."""
    num_late: int | None = None
    """Steps by which metrics may be late; None: 1 on a GPU with a fused optimizer, else 0."""
    attempts: deque[Attempt] = field(default_factory=deque)
    """Steps whose metrics were not read yet, the oldest first."""

    def __post_init__(self) -> None:
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.scaler = self.processes.accelerator.scaler
        can_skip = getattr(self.optimizer, "_step_supports_amp_scaling", False) and self.scaler is None
        if self.num_late is None:
            self.num_late = int(can_skip and self.processes.device.type == "cuda")
        assert can_skip or not self.num_late
        self.held_back = torch.zeros((), device=self.processes.device)  # 1 once a step was bad

    def attempt(self, step: int) -> bool:
        """Make optimizer step `step`; its metrics come out of `arrived` at once or one step later.

        Returns:
            Whether the update was made: False if this step is known to be bad, or the scaler skipped it.
        """
        parts = []
        vector: Tensor | None = None
        for micro in range(self.source.share.num_micros):
            batch, losses = self._accumulate(step, micro)
            parts.append((batch, losses))
            part = StepTotals.of_micro_batch(losses, self.num_buckets).pack()
            vector = part if vector is None else vector + part
        assert vector is not None
        if (number := failpoint(f"gradient-{step}-rank-{self.processes.rank}")) is not None:
            own_part(next(p.grad for p in self.parameters if p.grad is not None)).fill_(number)
        norm = self._gradient_norm()
        totals = StepTotals.unpack(vector, self.num_buckets)
        totals.num_stops.fill_(float(self.signals.received is not None))
        # The exchanged gradient is the same in every process, and its norm too, unless one of them is broken. A norm
        # that is not finite anywhere must be so everywhere, or the others would go on alone.
        totals.grad_norm.copy_(norm.where(~norm.isfinite(), 0.0))
        self.processes.sum(vector)
        norm = norm + totals.grad_norm
        # With a scaler an overflow of the gradient is the scaler's business: it skips the step, which is counted.
        totals.grad_norm.copy_(norm if self.scaler is None else norm.nan_to_num(0.0, 0.0, 0.0))
        self.attempts.append(Attempt(step, Pending(vector), parts))
        if self.objective.process.time_law.state_dict():
            self._teach_time_law([losses for _, losses in parts])
        return self._update(totals.num_bad > 0, norm)

    def arrived(self, *, all_of_them: bool = False) -> Iterator[tuple[StepMetrics, Attempt]]:
        """Yield the metrics that are there, or wait for all of them."""
        while len(self.attempts) > (0 if all_of_them else self.num_late or 0):
            attempt = self.attempts.popleft()
            terms = tuple(attempt.parts[0][1].terms)
            totals = StepTotals.unpack(attempt.pending.read(), self.num_buckets)
            yield StepMetrics(attempt.step, self.source.share.batch_size, terms, totals), attempt

    def _accumulate(self, step: int, micro: int) -> tuple[Batch, Losses]:
        processes, num_micros = self.processes, self.source.share.num_micros
        batch = self.source.batch(step, micro)
        with processes.without_sync(self.objective.network, last=micro == num_micros - 1):
            losses = self.objective.losses(batch, step)
            if (number := failpoint(f"step-{step}-rank-{processes.rank}-micro-{micro}")) is not None:
                losses.loss.data[0] = number
            loss = self.objective.total(losses).mean() / num_micros
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return batch, losses

    def _gradient_norm(self) -> Tensor:
        """Return the norm of the gradient over all parameters, before it is clipped to `max_grad_norm`."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        for parameter in self.parameters:
            if parameter.grad is None and parameter.requires_grad and is_sharded(parameter):
                parameter.grad = torch.zeros_like(parameter)  # as the exchange of whole gradients leaves it
        gradients = [own_part(p.grad) for p in self.parameters if p.grad is not None]
        # Summed in float64, so that the same bits come out of whole gradients and of parts of them.
        norms = torch._foreach_norm(gradients, 2, dtype=torch.float64)  # pyright: ignore[reportPrivateImportUsage]
        norm = self.processes.sum_over_parts(torch.stack(norms).square().sum()).sqrt().float()
        if self.max_grad_norm is not None:
            scale = (self.max_grad_norm / (norm + SMALL_NORM)).clamp(max=1.0)
            torch._foreach_mul_(gradients, scale)  # pyright: ignore[reportPrivateImportUsage]
        return norm

    def _teach_time_law(self, parts: Sequence[Losses]) -> None:
        """Show a time law that learns the losses of the step, before their importance weights.

        What it sees must not depend on the number of processes: all losses of the step, in the order of the positions.
        """
        loss = torch.cat([losses.unweighted.detach() for losses in parts])
        t = to_device(torch.cat([losses.t for losses in parts]), loss.device)
        self.objective.process.time_law.update(self.processes.gather(t), self.processes.gather(loss))

    def _update(self, has_bad_loss: Tensor, norm: Tensor) -> bool:
        if self.scaler is not None:
            return self._update_scaled(has_bad_loss)
        bad = has_bad_loss | ~norm.isfinite()
        if self.num_late:
            self.held_back = torch.maximum(self.held_back, bad.float())
            self.optimizer.found_inf = self.held_back  # pyright: ignore[reportAttributeAccessIssue]
        elif bad:
            return False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return True

    def _update_scaled(self, has_bad_loss: Tensor) -> bool:
        """Update by the scaler's rules: an overflow of the scaled gradient skips the step and lowers the scale."""
        assert self.scaler is not None
        if has_bad_loss:
            return False
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        overflowed = self.scaler.get_scale() < before
        self.skipped += overflowed
        return not overflowed
