"""MeanFlow: DiT with a second time embedder, for the step between two times.

State-dict keys are those of the published PyTorch checkpoints.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D width, K classes.

Source: Geng et al., "Mean flows for one-step generative modeling", NeurIPS 2025, section 4.3.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dit.errors import ConfigError
from dit.layers.embed import LabelEmbedder, PatchEmbed, TimestepEmbedder
from dit.models.dit.network import DiTBlock, FinalLayer
from dit.models.meanflow.arguments import MeanFlowArguments
from dit.models.sequential import SequentialTransformer


class MeanFlow(SequentialTransformer):
    """Class-conditional MeanFlow over latents; see `MeanFlowArguments` for what it is built from."""

    arguments: MeanFlowArguments
    condition_names: ClassVar[tuple[str, ...]] = ("r",)

    def __init__(self, arguments: MeanFlowArguments) -> None:
        super().__init__(arguments)
        width, patch, channels = arguments.hidden_size, arguments.patch_size, arguments.in_channels
        self.x_embedder = PatchEmbed(channels, width, patch)
        self.t_embedder = TimestepEmbedder(width)
        self.r_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        rows, columns = arguments.grid_size
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, width), requires_grad=False)
        self.blocks = nn.ModuleList(
            DiTBlock(width, arguments.num_heads, arguments.mlp_width) for _ in range(arguments.depth)
        )
        self.final_layer = FinalLayer(width, patch**2 * channels)
        if not self.pos_embed.is_meta:
            self.initialize_weights()

    def fit(self, weights: Mapping[str, Tensor], old: Any, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`.

        Those of a DiT become a MeanFlow that says the same of every step: its second time adds zero.
        """
        added = {name: value for name, value in self.state_dict().items() if name.startswith("r_embedder.")}
        for name in ("r_embedder.mlp.2.weight", "r_embedder.mlp.2.bias"):
            added[name] = torch.zeros_like(added[name])
        return super().fit(added | dict(weights), old, rows)

    def conditioning(self, t: Tensor, y: Tensor, *, r: Tensor | None = None, **conditions: Tensor) -> Tensor:
        """Return the conditioning (..., D) for times t, earlier times r and labels y whose shapes broadcast to (...).

        Raises:
            ConfigError: there is no r, or something besides it.
        """
        if conditions:
            raise ConfigError(f"{min(conditions)}: expected r alone besides time and class, found it")
        if r is None:
            raise ConfigError("r: expected the earlier time besides t, as in model(x_t, t, y, r=r), found none")
        return self.t_embedder(t) + self.r_embedder(t - r) + self.y_embedder(y)
