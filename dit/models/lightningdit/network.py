"""LightningDiT: DiT with RMSNorm, SwiGLU, rotary positions, and modulation that may go without shifts.

x -> patches + positions -> N blocks -> modulated linear -> patches back to an image.
State-dict keys are those of the published checkpoints.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D width, d head width, K classes.

Source: Yao et al., "Reconstruction vs. generation: taming optimization dilemma in latent diffusion models", CVPR 2025,
section 4.3.
"""

import torch
from torch import Tensor, nn

from dit.layers.attention import Attention
from dit.layers.embed import FourierEmbedder, LabelEmbedder, PatchEmbed, TimestepEmbedder
from dit.layers.mlp import Mlp, SwiGlu
from dit.layers.modulation import add_gated, layer_norm, modulate, modulation
from dit.layers.norm import rms_norm
from dit.layers.position import rotary_2d
from dit.models.lightningdit.arguments import LightningDiTArguments
from dit.models.sequential import SequentialTransformer


class LightningDiTBlock(nn.Module):
    """Attention and MLP, each normalised, modulated and gated by the conditioning; the identity at initialisation."""

    def __init__(self, arguments: LightningDiTArguments) -> None:
        super().__init__()
        width = arguments.hidden_size
        norm = rms_norm if arguments.rms_norm else layer_norm
        # The published LayerNorm of heads is torch's own, with weights and eps 1e-5.
        qk_norm = (rms_norm if arguments.rms_norm else nn.LayerNorm) if arguments.qk_norm else None
        self.norm1 = norm(width)
        self.attn = Attention(width, arguments.num_heads, qk_norm=qk_norm)
        self.norm2 = norm(width)
        self.mlp = (SwiGlu if arguments.swiglu else Mlp)(width, arguments.mlp_width)
        self.adaLN_modulation = modulation(width, 6 if arguments.shift else 4)
        self.shift = arguments.shift

    def forward(
        self, x: Tensor, c: Tensor | None, modulation: Tensor | None = None, *, rotary: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D).

        Args:
            x: tokens.
            c: conditioning, (B, D) of the sample or (B, T, D) of each token.
            modulation: (..., 6D) or, without shifts, (..., 4D) what `adaLN_modulation` makes of c, where that is known.
            rotary: (2, T, d/2) turns of queries and keys.
        """
        chunks: Tensor = self.adaLN_modulation(c) if modulation is None else modulation
        if self.shift:
            shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = chunks.chunk(
                6, dim=-1
            )  # each (B, D) or (B, T, D)
            x = add_gated(x, gate_msa, self.attn(modulate(self.norm1(x), shift_msa, scale_msa), rotary))
            return add_gated(x, gate_mlp, self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp)))
        scale_msa, gate_msa, scale_mlp, gate_mlp = chunks.chunk(4, dim=-1)
        x = add_gated(x, gate_msa, self.attn(self.norm1(x) * (1 + scale_msa[:, None]), rotary))
        return add_gated(x, gate_mlp, self.mlp(self.norm2(x) * (1 + scale_mlp[:, None])))


class FinalLayer(nn.Module):
    """Modulated normalisation, then a Linear to the values of a patch."""

    def __init__(self, hidden_size: int, num_values: int, *, use_rms_norm: bool) -> None:
        super().__init__()
        self.norm_final = (rms_norm if use_rms_norm else layer_norm)(hidden_size)
        self.linear = nn.Linear(hidden_size, num_values)
        self.adaLN_modulation = modulation(hidden_size, 2)

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Return (B, T, num_values) for tokens x (B, T, D) and what `adaLN_modulation` makes of c, (..., 2D)."""
        shift, scale = modulation.chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class LightningDiT(SequentialTransformer):
    """Class-conditional LightningDiT over latents; see `LightningDiTArguments` for what it is built from."""

    arguments: LightningDiTArguments

    def __init__(self, arguments: LightningDiTArguments) -> None:
        super().__init__(arguments)
        width, patch, channels = arguments.hidden_size, arguments.patch_size, arguments.in_channels
        self.x_embedder = PatchEmbed(channels, width, patch)
        self.t_embedder = (FourierEmbedder if arguments.fourier_time else TimestepEmbedder)(width)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        rows, columns = arguments.grid_size
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, width), requires_grad=False)
        self.blocks = nn.ModuleList(LightningDiTBlock(arguments) for _ in range(arguments.depth))
        values = patch**2 * channels * (2 if arguments.variance_half else 1)
        self.final_layer = FinalLayer(width, values, use_rms_norm=arguments.rms_norm)
        if not self.pos_embed.is_meta:
            self.initialize_weights()

    def block_inputs(self) -> dict[str, Tensor]:
        """Return the turns of queries and keys."""
        if not self.arguments.rotary:
            return {}
        return {"rotary": rotary_2d(self.arguments.head_size, self.arguments.grid_size, device=self.pos_embed.device)}

    def leave(self, modulation: Tensor, tokens: Tensor) -> Tensor:
        """Return the image (B, C, H, W) of the last block's tokens (B, T, D) and the final modulation (B, 2D)."""
        return super().leave(modulation, tokens)[:, : self.arguments.in_channels]
