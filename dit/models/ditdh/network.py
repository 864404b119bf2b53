"""DiT-DH: an encoder of LightningDiT's blocks, and a shallow, wide head whose blocks it conditions token by token.

s = SiLU(time + encoder(x, time, class)), widened; output = head(x, s): the head sees the input anew.
State-dict keys are those of the published checkpoints.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D encoder width, E head width, d head size,
K classes.

Source: Zheng et al., "Diffusion transformers with representation autoencoders", 2025, section 5.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dit.layers.embed import FourierEmbedder, LabelEmbedder, PatchEmbed, unpatchify
from dit.layers.position import rotary_2d, sincos_2d
from dit.models.decoupled import LABELS, DecoupledTransformer
from dit.models.ditdh.arguments import DiTDHArguments
from dit.models.fit import channel_ratio, fit_labels, fit_outputs, fit_patches
from dit.models.lightningdit.network import FinalLayer, LightningDiTBlock


class DiTDH(DecoupledTransformer):
    """Class-conditional DiT-DH over latents; see `DiTDHArguments` for what it is built from."""

    arguments: DiTDHArguments

    def __init__(self, arguments: DiTDHArguments) -> None:
        super().__init__(arguments)
        self.encoder_depth = arguments.depth
        width, wide, patch = arguments.hidden_size, arguments.head_hidden_size, arguments.patch_size
        self.x_embedder = PatchEmbed(arguments.in_channels, wide, patch)
        self.s_embedder = PatchEmbed(arguments.in_channels, width, patch)
        self.s_projector = nn.Identity() if width == wide else nn.Linear(width, wide)
        self.t_embedder = FourierEmbedder(width)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        rows, columns = arguments.grid_size
        if arguments.positions:
            self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, width), requires_grad=False)
        self.blocks = nn.ModuleList(
            [LightningDiTBlock(half) for half in (arguments.encoder, arguments.head) for _ in range(half.depth)]
        )
        self.final_layer = FinalLayer(wide, patch**2 * arguments.in_channels, use_rms_norm=arguments.rms_norm)
        if not self.final_layer.linear.weight.is_meta:
            self.initialize_weights()

    def initialize_weights(self) -> None:
        """Draw the weights as published: every block the identity, the output zero, the rest as torch draws it."""
        for embedder in (self.x_embedder, self.s_embedder):
            nn.init.xavier_uniform_(embedder.proj.weight.flatten(1))
            assert embedder.proj.bias is not None
            nn.init.zeros_(embedder.proj.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.startswith("t_embedder.mlp") and name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02)
            if ".adaLN_modulation." in name or name.startswith("final_layer.linear"):
                nn.init.zeros_(parameter)
        if self.arguments.positions:
            with torch.no_grad():
                self.pos_embed.copy_(sincos_2d(self.pos_embed.shape[2], self.arguments.grid_size))

    def enter_encoder(self, x: Tensor) -> Tensor:
        """Return the encoder's tokens (B, T, D) of latents x (B, C, H, W)."""
        tokens = self.s_embedder(x)
        return tokens + self.pos_embed if self.arguments.positions else tokens

    def enter_decoder(self, x: Tensor) -> Tensor:
        """Return the head's tokens (B, T, E) of latents x (B, C, H, W)."""
        return self.x_embedder(x)

    def widen(self, state: Tensor) -> Tensor:
        """Return the condition (B, T, E) of what the encoder says of each token (B, T, D)."""
        return self.s_projector(state)

    def block_inputs(self, *, of_decoder: bool) -> dict[str, Tensor]:
        """Return the turns of queries and keys."""
        half = self.arguments.head if of_decoder else self.arguments.encoder
        if not half.rotary:
            return {}
        return {"rotary": rotary_2d(half.head_size, half.grid_size, device=self.final_layer.linear.weight.device)}

    def leave(self, tokens: Tensor, state: Tensor) -> Tensor:
        """Return the image (B, C, H, W) of the last block's tokens and their condition, each (B, T, E)."""
        output = self.final_layer.modulated(tokens, self.final_layer.adaLN_modulation(state))
        return unpatchify(output, self.arguments.grid_size, self.arguments.patch_size)

    def fit(self, weights: Mapping[str, Tensor], old: DiTDHArguments, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`."""
        fresh, times = self.state_dict(), channel_ratio(old, self.arguments)
        fitted = dict(weights) | {LABELS: fit_labels(fresh[LABELS], weights[LABELS], rows)}
        if "pos_embed" in fresh:
            fitted["pos_embed"] = fresh["pos_embed"]
        for name in ("x_embedder.proj.weight", "s_embedder.proj.weight"):
            fitted[name] = fit_patches(weights[name], times)
        for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
            fitted[name] = fit_outputs(fresh[name], weights[name], times, old.in_channels, old_parts=1, new_parts=1)
        return fitted
