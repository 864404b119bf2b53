"""JiT: a transformer over large patches of pixels, with a bottleneck at the entrance and the class as tokens.

x -> two projections + positions -> blocks -> class tokens join -> blocks -> modulated linear -> patches to an image.
State-dict keys are those of the published checkpoints.

B batch, C channels, H x W pixels, p patch, T = HW/p^2 tokens, L class tokens, D width, d head width, K classes.

Source: Li & He, "Back to basics: let denoising generative models denoise", 2025, section 4 and appendix A.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dit.layers.attention import Attention
from dit.layers.embed import BottleneckPatchEmbed, LabelEmbedder, TimestepEmbedder
from dit.layers.linear import linear
from dit.layers.mlp import SwiGlu
from dit.layers.modulation import add_gated, modulate, modulation
from dit.layers.norm import rms_norm
from dit.layers.position import rotary_2d, unturned_before
from dit.models.jit.arguments import JiTArguments
from dit.models.lightningdit.network import FinalLayer
from dit.models.prepared import CallBlock
from dit.models.sequential import SequentialTransformer


class JiTBlock(nn.Module):
    """Attention and MLP, each normalised, modulated and gated by the conditioning; the identity at initialisation."""

    def __init__(self, arguments: JiTArguments, dropout: float) -> None:
        super().__init__()
        width = arguments.hidden_size
        self.norm1 = rms_norm(width)
        self.attn = Attention(width, arguments.num_heads, qk_norm=rms_norm)
        self.norm2 = rms_norm(width)
        self.mlp = SwiGlu(width, arguments.mlp_width)
        self.adaLN_modulation = modulation(width, 6)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, c: Tensor | None, modulation: Tensor | None = None, *, rotary: Tensor) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D).

        Args:
            x: tokens.
            c: (B, D) conditioning.
            modulation: (B, 6D) what `adaLN_modulation` makes of c, where that is known already.
            rotary: (2, T, d/2) turns of queries and keys.
        """
        chunks: Tensor = self.adaLN_modulation(c) if modulation is None else modulation
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = chunks.chunk(6, dim=1)  # each (B, D)
        attended = self.attn(modulate(self.norm1(x), shift_msa, scale_msa), rotary)
        x = add_gated(x, gate_msa, self.dropout(attended))
        return add_gated(x, gate_mlp, self._mlp(modulate(self.norm2(x), shift_mlp, scale_mlp)))

    def _mlp(self, x: Tensor) -> Tensor:
        gate, value = linear(x, self.mlp.w12).chunk(2, dim=-1)
        return linear(self.dropout(silu(gate) * value), self.mlp.w3)


class JiT(SequentialTransformer):
    """Class-conditional JiT over pixels; see `JiTArguments` for what it is built from."""

    arguments: JiTArguments

    def __init__(self, arguments: JiTArguments) -> None:
        super().__init__(arguments)
        width, patch, channels = arguments.hidden_size, arguments.patch_size, arguments.in_channels
        self.x_embedder = BottleneckPatchEmbed(channels, arguments.bottleneck_size, width, patch)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        rows, columns = arguments.grid_size
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, width), requires_grad=False)
        self.in_context_posemb = nn.Parameter(torch.empty(1, arguments.num_context_tokens, width))
        middle = range(arguments.depth // 4, arguments.depth // 4 * 3)
        self.blocks = nn.ModuleList(
            JiTBlock(arguments, arguments.dropout if i in middle else 0.0) for i in range(arguments.depth)
        )
        self.final_layer = FinalLayer(width, patch**2 * channels, use_rms_norm=True)
        if not self.pos_embed.is_meta:
            self.initialize_weights()

    def initialize_weights(self) -> None:
        """Draw the weights as `AdaLNTransformer` does, the positions of the class tokens from N(0, 0.02)."""
        super().initialize_weights()
        nn.init.normal_(self.in_context_posemb, std=0.02)

    def run_blocks(self, tokens: Tensor, y: Tensor, call: CallBlock) -> Tensor:
        """Take the tokens (B, T, D) through the blocks; the class tokens of y (B,) join on the way and are dropped."""
        turns = rotary_2d(self.arguments.head_size, self.arguments.grid_size, device=tokens.device)
        num_tokens = tokens.shape[1]
        for i in range(self.arguments.depth):
            if i == self.arguments.context_start:
                context = self.y_embedder(y)[:, None] + self.in_context_posemb  # (B, L, D)
                tokens = torch.cat([context.to(tokens.dtype), tokens], dim=1)  # (B, L + T, D)
                turns = unturned_before(turns, context.shape[1])
            tokens = call(i, tokens, {"rotary": turns})
        return tokens[:, -num_tokens:]
