"""Tokens of a block learn the features that a frozen encoder has of the image.

    loss = - mean over T of cos(f, h(z)),

for the encoder's patch features f (B, T, F), tokens z (B, T, D) after `block` and a head h = Linear(D, W), SiLU,
Linear(W, W), SiLU, Linear(W, F), with W = 2048. The image, in [0, 1], is resized to as many patches of the encoder as
the network has tokens (224 pixels for 16 x 16 patches of 14), bicubic without a wider filter where it shrinks, and
normalised as the encoder's. Features that `dit encode --features` cached are read in bfloat16, whose rounding changes
a loss of float32 features by less than 1e-4.

Source: Yu et al., "Representation alignment for generation: training diffusion transformers is easier than you think"
(REPA), ICLR 2025; W and the way of the image are its public code's.
"""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from dit.encoders.load import load_encoder
from dit.training.batch import Batch
from dit.training.objectives.auxiliary import AuxiliaryLoss, Pass, Surroundings
from dit.training.objectives.config import AlignmentConfig
from dit.training.objectives.heads import mlp, tokens_shape
from dit.training.objectives.masks import patches_of

FIELD = "objective.auxiliary: alignment.encoder"


class Alignment(AuxiliaryLoss):
    """Minus the cosine to an encoder's features."""

    config: AlignmentConfig

    def __init__(self, config: AlignmentConfig, surroundings: Surroundings) -> None:
        super().__init__(config, surroundings)
        self.block, self.until_step = config.block, config.until_step
        grid = patches_of(surroundings.arguments).grid_size
        self.encoder, num_features = None, surroundings.num_features
        if num_features is None:
            self.encoder = load_encoder(config.encoder, surroundings.processes.device, field=FIELD, grid=grid)
            num_features = self.encoder.network.num_features
        _, width = tokens_shape(surroundings.average, config.block)
        self.head = mlp(width, config.head_width, config.head_width, num_features)

    def __call__(self, seen: Pass) -> Tensor:
        """Return the loss of each sample before its weight: (B,)."""
        assert seen.tokens is not None
        return -cosine_similarity(seen.tokens.float(), self.features(seen.batch), dim=2).mean(1)

    @torch.no_grad()
    def features(self, batch: Batch) -> Tensor:
        """Return the encoder's features of a batch's images, cached ones or new: (B, T, F) float32."""
        if batch.features is not None:
            return batch.features.flatten(2).transpose(1, 2).float()
        assert batch.images is not None
        assert self.encoder is not None
        with self.surroundings.processes.autocast():
            return self.encoder(batch.images.float() / 255).patches.float()
