"""Tokens of different images repel each other, without pairs that attract and without a second network.

    loss = log mean over i, j of exp(-d(z_i, z_j) / temperature),   d = mean over (T, D) of (z_i - z_j)^2,

over all ordered pairs of a group, i = j included, for the tokens z of a block. It is 0 where all are alike, and at
least -log(group).

The groups are runs of neighbours in the global batch, so that the loss does not depend on how a batch is split; the
paper's are the whole batch, its code's those of a process.

Source: Wang & He, "Diffuse and disperse: image generation with representation regularization", 2025, the variant of
InfoNCE with l2 distances; the mean in d, temperature 1 and weight 0.25 are its public code's.
"""

import math

from torch import Tensor

from dit.training.objectives.auxiliary import AuxiliaryLoss, Pass, Surroundings
from dit.training.objectives.config import DispersiveConfig


class Dispersive(AuxiliaryLoss):
    """The mean repulsion within each group."""

    config: DispersiveConfig

    def __init__(self, config: DispersiveConfig, surroundings: Surroundings) -> None:
        super().__init__(config, surroundings)
        self.block = config.block

    def __call__(self, seen: Pass) -> Tensor:
        """Return the loss of each sample before its weight, that of its group: (B,)."""
        assert seen.tokens is not None
        z = seen.tokens.float().flatten(1).unflatten(0, (-1, self.config.group))  # (groups, group, TD)
        z = z - z.mean(1, keepdim=True)  # so that products of rows are no larger than the distances made of them
        norm = z.square().mean(2)  # (groups, group)
        distance = norm[:, :, None] + norm[:, None] - 2 * z @ z.mT / z.shape[2]  # (groups, group, group)
        loss = (-distance / self.config.temperature).flatten(1).logsumexp(1) - 2 * math.log(self.config.group)
        return loss.repeat_interleave(self.config.group)
