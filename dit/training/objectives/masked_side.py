"""A second pass in which the network sees some of the tokens and fills in the others by its side block.

    loss = the process's loss of that pass, over all tokens,

at the same data, labels and times with noise of its own. The share of tokens left out is drawn for each step between
two bounds. The original drops labels anew for the second pass; here the same ones are dropped in both, which does not
change the expectation.

Source: Gao et al., "Masked diffusion transformer is a strong image synthesizer", ICCV 2023, section 3; the bounds are
those of "MDTv2", 2023.
"""

from torch import Tensor

from dit.rng import Purpose, uniform
from dit.training.objectives.auxiliary import AuxiliaryLoss, Pass, Watched
from dit.training.objectives.config import MaskedSideConfig
from dit.training.objectives.masks import draw_keep, patches_of


class MaskedSide(AuxiliaryLoss):
    """The loss of a masked pass."""

    config: MaskedSideConfig

    def __call__(self, seen: Pass) -> Tensor:
        """Return the loss of each sample before its weight: (B,)."""
        batch, device = seen.batch, seen.batch.x_0.device
        keep = draw_keep(batch.draws, patches_of(self.surroundings.arguments), self.ratio(seen.step), device)
        noise = batch.draws.normal(Purpose.MASKED_NOISE, batch.x_0.shape[1:], device)
        return seen.process.losses(Watched(seen.network, keep=keep), batch.x_0, batch.y, noise=noise, u=batch.u).loss

    def ratio(self, step: int) -> float:
        """Return the share of tokens that is left out in a step: one for the whole batch."""
        low, high = self.config.ratio
        return low + (high - low) * uniform(self.surroundings.seed, Purpose.MASK_RATIO, [step]).item()
