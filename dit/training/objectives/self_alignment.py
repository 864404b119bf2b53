"""Tokens of an early block learn those of a later block of the averaged network, at a cleaner time of the same sample.

    loss = mean over (T, D) of l(h(z) - z'),   l(d) = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2,
    z after `block` at t,   z' after `teacher_block` at t' = max(t - largest_gap u, 0),   u ~ U(0, 1),

with a head h = Linear(D, 2D), SiLU, Linear(2D, D), the same noise, label and beta 0.05 on both sides, and no gradient
through z'.

Source: Jiang et al., "No other representation component is needed: diffusion transformers can provide representation
guidance by themselves" (SRA), ICLR 2026; head, beta and weight are its public code's, whose weight falls after 150
epochs.
"""

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from dit.device import to_device
from dit.rng import Purpose
from dit.training.objectives.auxiliary import AuxiliaryLoss, Pass, Surroundings
from dit.training.objectives.config import SelfAlignmentConfig
from dit.training.objectives.heads import mlp, tokens_shape

BETA = 0.05


class SelfAlignment(AuxiliaryLoss):
    """The distance to the teacher's tokens."""

    config: SelfAlignmentConfig

    def __init__(self, config: SelfAlignmentConfig, surroundings: Surroundings) -> None:
        super().__init__(config, surroundings)
        _, width = tokens_shape(surroundings.average, config.block)
        _, teacher_width = tokens_shape(surroundings.average, config.teacher_block)
        self.block, self.head = config.block, mlp(width, width + teacher_width, teacher_width)

    def __call__(self, seen: Pass) -> Tensor:
        """Return the loss of each sample before its weight: (B,)."""
        assert seen.tokens is not None
        t = (seen.t - self.config.largest_gap * seen.batch.draws.uniform(Purpose.TEACHER_TIME)).clamp(min=0)
        return smooth_l1_loss(seen.tokens.float(), self.taught(seen, t), beta=BETA, reduction="none").flatten(1).mean(1)

    @torch.no_grad()
    def taught(self, seen: Pass, t: Tensor) -> Tensor:
        """Return the tokens of the averaged network at the times t (B,): (B, T, D)."""
        process, batch, teacher = seen.process, seen.batch, self.surroundings.average
        x_t = process.corrupt(batch.x_0, batch.noise, t)
        with self.surroundings.processes.autocast():
            _, (tokens,) = teacher.forward_intermediates(
                process.model_input(x_t, t),
                to_device(process.model_time(t), x_t.device),
                batch.y,
                after=[self.config.teacher_block],
            )
        return tokens.float()
