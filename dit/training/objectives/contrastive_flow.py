"""Velocities that keep away from those of other samples.

    loss = - mean over (C, H, W) of (v - v~)^2,   v~ = alpha' x~_0 + sigma' eps~ at the sample's own time,

for the network's velocity v and the data and noise of another sample, drawn from its group of neighbours in the global
batch, so that the loss does not depend on how a batch is split (the public code draws from the batch of a process). The
sum with the process's loss is bounded from below for weights below 1.

Source: Stoica et al., "Contrastive flow matching", ICCV 2025; the weight is its public code's.
"""

import torch
from torch import Tensor

from dit.device import to_device
from dit.diffusion.process import mean_square
from dit.rng import Purpose
from dit.training.objectives.auxiliary import AuxiliaryLoss, Pass
from dit.training.objectives.config import ContrastiveFlowConfig


class ContrastiveFlow(AuxiliaryLoss):
    """Minus the square error towards another sample's velocity."""

    config: ContrastiveFlowConfig

    def __call__(self, seen: Pass) -> Tensor:
        """Return the loss of each sample before its weight: (B,)."""
        batch = seen.batch
        others = to_device(self.others(batch.draws.uniform(Purpose.NEGATIVE)), batch.x_0.device)
        return -mean_square(seen.prediction - seen.target(batch.x_0[others], batch.noise[others]))

    def others(self, u: Tensor) -> Tensor:
        """Return the row of another sample of each row's group for uniform u (B,): (B,) int64."""
        size, row = self.config.group, torch.arange(len(u))
        place = row % size
        return row - place + (place + 1 + (u * (size - 1)).long()) % size
