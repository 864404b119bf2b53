"""The network sees some of the tokens, and restores the noised input where it does not.

    process's loss: over the tokens that it sees,
    loss = mean over the other tokens of the mean square of (p(x^_0) - g),   g = (p(x_t) - mean) / sqrt(var + 1e-6),

for patches p of the predicted data x^_0 and of the noised input x_t, whose mean and (unbiased) variance are each
patch's own. The share of tokens left out is the same throughout, or falls to 0 by the end as ratio cos(pi k / 2)^4 in
the share k of the run.

Source: Zheng et al., "Fast training of diffusion models with masked transformers", TMLR 2024, section 3.
"""

import math

from torch import Tensor

from dit.layers.embed import patchify
from dit.training.batch import Batch
from dit.training.objectives.auxiliary import AuxiliaryLoss, Pass
from dit.training.objectives.config import MaskedReconstructionConfig
from dit.training.objectives.masks import draw_keep, is_kept, patches_of


class MaskedReconstruction(AuxiliaryLoss):
    """The error in what the network was not shown."""

    config: MaskedReconstructionConfig

    def keep(self, batch: Batch, step: int) -> Tensor:
        """Return the tokens (B, T') that the network is shown."""
        arguments = patches_of(self.surroundings.arguments)
        return draw_keep(batch.draws, arguments, self.ratio(step), batch.x_0.device)

    def ratio(self, step: int) -> float:
        """Return the share of tokens that is left out in a step."""
        if self.config.schedule == "constant":
            return self.config.ratio
        return self.config.ratio * math.cos(math.pi / 2 * step / self.surroundings.max_steps) ** 4

    def __call__(self, seen: Pass) -> Tensor:
        """Return the loss of each sample before its weight: (B,)."""
        assert seen.keep is not None
        arguments = patches_of(self.surroundings.arguments)
        x_t = seen.process.corrupt(seen.batch.x_0, seen.batch.noise, seen.t)
        x_0 = seen.process.denoise(seen.output, x_t, seen.t).x_0
        noised = patchify(x_t, arguments.patch_size)  # (B, T, ppC)
        goal = (noised - noised.mean(2, keepdim=True)) / (noised.var(2, keepdim=True) + 1e-6).sqrt()
        error = (patchify(x_0, arguments.patch_size) - goal).square().mean(2)  # (B, T)
        is_hidden = 1 - is_kept(seen.keep, arguments)
        return (error * is_hidden).sum(1) / is_hidden.sum(1).clamp(min=1)
