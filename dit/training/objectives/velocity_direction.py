"""The direction of the velocity, besides its value.

    loss = 1 - mean over (H, W) of cos(v, v*),   cos over the C channels of a position,

for the network's velocity v and its target v* = alpha' x_0 + sigma' eps.

Source: Yao et al., "Reconstruction vs. generation: taming optimization dilemma in latent diffusion models", CVPR 2025:
LightningDiT's velocity direction loss.
"""

from torch import Tensor
from torch.nn.functional import cosine_similarity

from dit.training.objectives.auxiliary import AuxiliaryLoss, Pass
from dit.training.objectives.config import VelocityDirectionConfig


class VelocityDirection(AuxiliaryLoss):
    """One minus the mean cosine between velocity and target."""

    config: VelocityDirectionConfig

    def __call__(self, seen: Pass) -> Tensor:
        """Return the loss of each sample before its weight: (B,)."""
        target = seen.target(seen.batch.x_0, seen.batch.noise)
        return 1 - cosine_similarity(seen.prediction.float(), target.float(), dim=1).mean((1, 2))
