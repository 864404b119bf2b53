"""DiT-DH: an encoder of LightningDiT's blocks, and a shallow, wide head whose blocks it conditions token by token.

s = SiLU(time + encoder(x, time, class)), widened; output = head(x, s): the head sees the input anew.
State-dict keys are those of the published checkpoints.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D encoder width, E head width, d head size,
K classes.

Source: Zheng et al., "Diffusion transformers with representation autoencoders", 2025, section 5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dit.errors import ConfigError
from dit.layers.embed import FourierEmbedder, LabelEmbedder, PatchEmbed, unpatchify
from dit.layers.position import rotary_2d, sincos_2d
from dit.layers.precision import dtype_of
from dit.models.ditdh.arguments import DiTDHArguments
from dit.models.fit import channel_ratio, fit_labels, fit_outputs, fit_patches
from dit.models.lightningdit.arguments import LightningDiTArguments
from dit.models.lightningdit.network import FinalLayer, LightningDiTBlock
from dit.models.network import Network

LABELS = "y_embedder.embedding_table.weight"


class DiTDH(Network):
    """Class-conditional DiT-DH over latents; see `DiTDHArguments` for what it is built from."""

    arguments: DiTDHArguments

    def __init__(self, arguments: DiTDHArguments) -> None:
        super().__init__(arguments)
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

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict from noised latents.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time as the process embeds it.
            y: (B,) int64 labels in [0, K]; K is the null class.

        Returns:
            (B, C, H, W).

        Raises:
            ConfigError: the latents have another shape than the network was built for.
        """
        return self.forward_intermediates(x_t, t, y)[0]

    def forward_intermediates(
        self, x_t: Tensor, t: Tensor, y: Tensor, *, after: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output of `forward`, and the tokens (B, T, D or E) after these numbers of blocks, from 1."""
        arguments = self.arguments
        if x_t.shape[1:] != (arguments.in_channels, *arguments.input_size):
            expected = "x".join(map(str, (arguments.in_channels, *arguments.input_size)))
            raise ConfigError(f"x: expected latents of {expected}, found {'x'.join(map(str, x_t.shape[1:]))}")
        kept: dict[int, Any] = dict.fromkeys(after)
        time = self.t_embedder(t)  # (B, D)
        state = self.s_embedder(x_t)
        if arguments.positions:
            state = state + self.pos_embed
        condition = silu(time + self.y_embedder(y))
        state = self._run(state, condition, arguments.encoder, 0, kept)
        state = self.s_projector(silu(time[:, None] + state))  # (B, T, E)
        tokens = self._run(self.x_embedder(x_t), state, arguments.head, arguments.depth, kept)
        output = self.final_layer.modulated(tokens, self.final_layer.adaLN_modulation(state))
        return unpatchify(output, arguments.grid_size, arguments.patch_size), [kept[number] for number in after]

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

    def block_list(self) -> list[nn.Module]:
        """Return the blocks of encoder and head."""
        return list(self.blocks)

    def _run(
        self, tokens: Tensor, condition: Tensor, half: LightningDiTArguments, first: int, kept: dict[int, Any]
    ) -> Tensor:
        """Take the tokens through the blocks of a half, in the blocks' type, and back to their own."""
        outer, inner = tokens.dtype, dtype_of(self.blocks)
        tokens, condition = tokens.to(inner), condition.to(inner)
        rotary = rotary_2d(half.head_size, half.grid_size, device=tokens.device) if half.rotary else None
        for i in range(first, first + half.depth):
            tokens = self.blocks[i](tokens, condition, rotary=rotary)
            if i + 1 in kept:
                kept[i + 1] = tokens
        return tokens.to(outer)
