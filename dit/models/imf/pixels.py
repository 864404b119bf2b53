"""pMF: iMF over large patches of pixels that predicts the image and returns the velocity towards it.

u = (x_t - x) / max(t, 0.05) for the predicted image x. State-dict keys are the published ones without their wrappers.

B batch, C channels, H x W pixels, E tokens of conditions, T patches, D width.

Source: Lu et al., "One-step latent-free image generation with pixel mean flows", 2026, section 3.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dit.layers.embed import BottleneckPatchEmbed
from dit.layers.position import rotary_2d, unturned_before
from dit.models.fit import expect_size
from dit.models.imf.arguments import ImfArguments, PmfArguments
from dit.models.imf.network import Imf

TIME_FLOOR = 0.05
"""Least time by which the way to the predicted image is divided."""


class Pmf(Imf):
    """Class-conditional pMF over pixels; see `PmfArguments` for what it is built from."""

    arguments: PmfArguments
    tokens_shape: ClassVar[tuple[int, ...]] = (1,)
    keeps_final_layer: ClassVar[bool] = False

    def __init__(self, arguments: PmfArguments) -> None:
        rows, columns = arguments.grid_size
        self._positions = (1, arguments.num_prefix_tokens + rows * columns, arguments.hidden_size)
        super().__init__(arguments)

    def _make_embedder(self, arguments: ImfArguments) -> nn.Module:
        assert isinstance(arguments, PmfArguments)
        self.pos_embed = nn.Parameter(torch.empty(self._positions))
        return BottleneckPatchEmbed(
            arguments.in_channels,
            arguments.bottleneck_size,
            arguments.hidden_size,
            arguments.patch_size,
            first_bias=True,
        )

    def initialize_weights(self) -> None:
        """Draw the weights as `Imf` does, the positions from N(0, 0.02)."""
        super().initialize_weights()
        nn.init.normal_(self.pos_embed, std=0.02)

    def fit(self, weights: Mapping[str, Tensor], old: ImfArguments, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`.

        Raises:
            ConfigError: the images have another size.
        """
        expect_size(old, self.arguments)
        return super().fit(weights, old, rows)

    def _placed(self, tokens: Tensor) -> Tensor:
        return tokens + self.pos_embed

    def _rotary(self, tokens: Tensor) -> Tensor:
        arguments = self.arguments
        turns = rotary_2d(arguments.head_size, arguments.grid_size, device=tokens.device)
        return unturned_before(turns, arguments.num_prefix_tokens)

    def _read(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return (x_t - output) / t.to(x_t).clamp(min=TIME_FLOOR)[:, None, None, None]
