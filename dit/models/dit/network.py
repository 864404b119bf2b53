"""The Diffusion Transformer with adaLN-Zero conditioning.

x -> patches + positions -> N blocks -> modulated linear -> patches back to an image.
State-dict keys are those of the published checkpoints.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D width, K classes.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers", ICCV 2023.
"""

import torch
from torch import Tensor, nn

from dit.layers.attention import Attention
from dit.layers.embed import LabelEmbedder, PatchEmbed, TimestepEmbedder
from dit.layers.mlp import Mlp
from dit.layers.modulation import add_gated, layer_norm, modulate, modulation
from dit.models.dit.arguments import DiTArguments
from dit.models.sequential import SequentialTransformer


class DiTBlock(nn.Module):
    """Attention and MLP, each normalised, modulated and gated by the conditioning; the identity at initialisation."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_width: int, *, qk_norm: bool = False) -> None:
        super().__init__()
        self.norm1 = layer_norm(hidden_size)
        self.attn = Attention(hidden_size, num_heads, qk_norm=nn.LayerNorm if qk_norm else None)
        self.norm2 = layer_norm(hidden_size)
        self.mlp = Mlp(hidden_size, mlp_width)
        self.adaLN_modulation = modulation(hidden_size, 6)

    def forward(self, x: Tensor, c: Tensor | None, modulation: Tensor | None = None) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D).

        Args:
            x: tokens.
            c: (B, D) conditioning.
            modulation: (B, 6D) what `adaLN_modulation` makes of c, where that is known already.
        """
        chunks: Tensor = self.adaLN_modulation(c) if modulation is None else modulation
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = chunks.chunk(6, dim=1)  # each (B, D)
        x = add_gated(x, gate_msa, self.attn(modulate(self.norm1(x), shift_msa, scale_msa)))
        return add_gated(x, gate_mlp, self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp)))


class FinalLayer(nn.Module):
    """Modulated normalisation, then a Linear to the values of a patch."""

    def __init__(self, hidden_size: int, num_values: int) -> None:
        super().__init__()
        self.norm_final = layer_norm(hidden_size)
        self.linear = nn.Linear(hidden_size, num_values)
        self.adaLN_modulation = modulation(hidden_size, 2)

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Return (B, T, num_values) for tokens x (B, T, D) and what `adaLN_modulation` makes of c, (B, 2D)."""
        shift, scale = modulation.chunk(2, dim=1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class DiT(SequentialTransformer):
    """Class-conditional Diffusion Transformer over latents; see `DiTArguments` for what it is built from."""

    arguments: DiTArguments

    def __init__(self, arguments: DiTArguments) -> None:
        super().__init__(arguments)
        width, patch, channels = arguments.hidden_size, arguments.patch_size, arguments.in_channels
        self.output_parts = 2 if arguments.learn_sigma else 1
        self.x_embedder = PatchEmbed(channels, width, patch)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        # Not trained, yet a parameter: the published checkpoints and parameter counts hold it.
        rows, columns = arguments.grid_size
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, width), requires_grad=False)
        self.blocks = nn.ModuleList(
            DiTBlock(width, arguments.num_heads, arguments.mlp_width, qk_norm=arguments.qk_norm)
            for _ in range(arguments.depth)
        )
        self.final_layer = FinalLayer(width, patch**2 * channels * self.output_parts)
        # On the meta device there is nothing to draw, and drawing would import torch's compiler for seconds.
        if not self.pos_embed.is_meta:
            self.initialize_weights()
