"""MDT and MDTv2: DiTs with relative position bias that see, in training, some of the tokens and fill in the others.

MDT: the last blocks are the decoder; MDTv2 connects its first half to its second by long skips, and the decoder's
blocks to the input. State-dict keys are those of the published checkpoints.

B batch, C latent channels, T tokens, T' kept tokens, D width, K classes.

Source: Gao et al., "Masked diffusion transformer is a strong image synthesizer", ICCV 2023, section 3.2; "MDTv2", 2023,
section 3.3.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dit.layers.attention import attend
from dit.layers.embed import LabelEmbedder, PatchEmbed, TimestepEmbedder
from dit.layers.linear import linear
from dit.layers.mlp import Mlp
from dit.layers.modulation import add_gated, layer_norm, modulate, modulation
from dit.layers.position import sincos_2d
from dit.layers.precision import dtype_of
from dit.models.adaln import AdaLNTransformer
from dit.models.dit.network import FinalLayer
from dit.models.fit import expect_size
from dit.models.mdt.arguments import MdtArguments
from dit.models.prepared import CallBlock


class RelativePositionBias(nn.Module):
    """One number for each head and each difference of rows and columns, added to the logits of attention.

    Source: Liu et al., "Swin transformer", ICCV 2021, equation 4.
    """

    def __init__(self, side: int, num_heads: int) -> None:
        super().__init__()
        # The last three rows, for a class token in other networks, are unused and published.
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * side - 1) ** 2 + 3, num_heads))

    def forward(self, index: Tensor) -> Tensor:
        """Return (..., heads, T, T) for rows of the table (..., T, T) int64."""
        return self.relative_position_bias_table[index].movedim(-1, -3)


class MdtAttention(nn.Module):
    """Self-attention with a relative position bias."""

    def __init__(self, hidden_size: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.rel_pos_bias = RelativePositionBias(side, num_heads)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D) and rows of the bias table (T, T) or (B, T, T) int64."""
        qkv = linear(x, self.qkv).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, d)
        attended = attend(q, k, v, bias=self.rel_pos_bias(index).to(q.dtype))
        return linear(attended.transpose(1, 2).flatten(2), self.proj)


class MdtBlock(nn.Module):
    """DiT's block with a relative position bias and, where asked for, a skip from an earlier block."""

    def __init__(self, arguments: MdtArguments, *, has_skip: bool = False) -> None:
        super().__init__()
        width = arguments.hidden_size
        self.norm1 = layer_norm(width)
        self.attn = MdtAttention(width, arguments.num_heads, arguments.grid_size[0])
        self.norm2 = layer_norm(width)
        self.mlp = Mlp(width, arguments.mlp_width)
        self.adaLN_modulation = modulation(width, 6)
        self.skip_linear = nn.Linear(2 * width, width) if has_skip else None

    def forward(
        self,
        x: Tensor,
        c: Tensor | None,
        modulation: Tensor | None = None,
        *,
        index: Tensor,
        skip: Tensor | None = None,
    ) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D).

        Args:
            x: tokens.
            c: (B, D) conditioning.
            modulation: (B, 6D) what `adaLN_modulation` makes of c, where that is known already.
            index: (T, T) or (B, T, T) int64 rows of the bias table.
            skip: (B, T, D) tokens of an earlier block, for a block with a skip.
        """
        if self.skip_linear is not None:
            assert skip is not None
            x = linear(torch.cat([x, skip], dim=-1), self.skip_linear)
        chunks: Tensor = self.adaLN_modulation(c) if modulation is None else modulation
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = chunks.chunk(6, dim=1)  # each (B, D)
        x = add_gated(x, gate_msa, self.attn(modulate(self.norm1(x), shift_msa, scale_msa), index))
        return add_gated(x, gate_mlp, self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp)))


class Mdt(AdaLNTransformer):
    """Class-conditional MDT over latents; see `MdtArguments` for what it is built from."""

    arguments: MdtArguments
    masked_only = ("mask_token", "sideblocks.")

    def __init__(self, arguments: MdtArguments) -> None:
        super().__init__(arguments)
        width, patch, channels = arguments.hidden_size, arguments.patch_size, arguments.in_channels
        self.output_parts = 2 if arguments.learn_sigma else 1
        self.x_embedder = PatchEmbed(channels, width, patch)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        rows, columns = arguments.grid_size
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, width))
        self.decoder_pos_embed = nn.Parameter(torch.empty(1, rows * columns, width))
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self._make_blocks(arguments)
        self.sideblocks = nn.ModuleList([MdtBlock(arguments)])
        self.final_layer = FinalLayer(width, patch**2 * channels * self.output_parts)
        if not self.pos_embed.is_meta:
            self.initialize_weights()

    def _make_blocks(self, arguments: MdtArguments) -> None:
        self.blocks = nn.ModuleList(MdtBlock(arguments) for _ in range(arguments.depth))

    def initialize_weights(self) -> None:
        """Draw the weights as `AdaLNTransformer` does, bias tables and the mask token from N(0, 0.02)."""
        super().initialize_weights()
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, RelativePositionBias):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
        with torch.no_grad():
            self.decoder_pos_embed.copy_(sincos_2d(self.pos_embed.shape[2], self.arguments.grid_size))

    def fit(self, weights: Mapping[str, Tensor], old: MdtArguments, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`.

        Raises:
            ConfigError: the latents have another size.
        """
        expect_size(old, self.arguments)
        return super().fit(weights, old, rows) | {"pos_embed": weights["pos_embed"]}

    def run_blocks(self, tokens: Tensor, y: Tensor, call: CallBlock) -> Tensor:
        """Take the tokens (B, T, D) through all blocks."""
        index = self.position_index()
        return self._decode(self._placed(self._encode(tokens, index, call)), tokens, index, call)

    def forward_masked(self, x_t: Tensor, t: Tensor, y: Tensor, keep: Tensor, **conditions: Tensor) -> Tensor:
        """Return the output where the first blocks see only some tokens, and a side block fills in the others.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time as the network embeds it.
            y: (B,) int64 labels.
            keep: (B, T') int64 numbers of the tokens that are seen.
            conditions: none.

        Source: MDT, section 3.2.
        """
        tokens, c = self.embed(x_t), self.conditioning(t, y, **conditions).to(dtype_of(self.final_layer))
        inner, blocks = c.to(tokens.dtype), self.block_list()
        kept = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))  # (B, T', D)
        index = self.position_index()
        of_kept = index[keep[:, :, None], keep[:, None, :]]  # (B, T', T')

        def call(i: int, tokens: Tensor, inputs: dict[str, Any]) -> Tensor:
            return blocks[i](tokens, inner, **inputs)

        kept = self._encode(kept, of_kept, call)
        whole = self.mask_token.to(kept.dtype).expand_as(tokens)
        places = keep[..., None].expand_as(kept)
        b = self._placed(whole.scatter(1, places, kept))
        filled = self.sideblocks[0](b, inner, index=index).scatter(1, places, b.gather(1, places))
        decoded = self._decode(filled, tokens, index, call)
        return self.leave(self.final_layer.adaLN_modulation(c), decoded)

    def position_index(self) -> Tensor:
        """Return the row of the bias table for each pair of tokens: (T, T) int64."""
        side = self.arguments.grid_size[0]
        place = torch.arange(side, device=self.pos_embed.device)
        row, column = place.repeat_interleave(side), place.repeat(side)  # each (T,)
        rows = row[:, None] - row + side - 1
        return rows * (2 * side - 1) + column[:, None] - column + side - 1

    def _placed(self, tokens: Tensor) -> Tensor:
        return tokens + self.decoder_pos_embed.to(tokens.dtype)

    def _encode(self, tokens: Tensor, index: Tensor, call: CallBlock) -> Tensor:
        """Take tokens (B, T', D) through the blocks that see the kept ones alone."""
        for i in range(self.arguments.depth - self.arguments.decode_layers):
            tokens = call(i, tokens, {"index": index})
        return tokens

    def _decode(self, tokens: Tensor, start: Tensor, index: Tensor, call: CallBlock) -> Tensor:
        """Take all tokens (B, T, D) through the last blocks; `start` holds those before the first block."""
        for i in range(self.arguments.depth - self.arguments.decode_layers, self.arguments.depth):
            tokens = call(i, tokens, {"index": index})
        return tokens


class MdtV2(Mdt):
    """Class-conditional MDTv2 over latents: the same with long skips."""

    def _make_blocks(self, arguments: MdtArguments) -> None:
        half = (arguments.depth - arguments.decode_layers) // 2
        self.en_inblocks = nn.ModuleList(MdtBlock(arguments) for _ in range(half))
        self.en_outblocks = nn.ModuleList(MdtBlock(arguments, has_skip=True) for _ in range(half))
        self.de_blocks = nn.ModuleList(MdtBlock(arguments, has_skip=True) for _ in range(arguments.decode_layers))

    def block_list(self) -> list[nn.Module]:
        """Return all blocks in the order they run, the side block apart."""
        return [*self.en_inblocks, *self.en_outblocks, *self.de_blocks]

    def _encode(self, tokens: Tensor, index: Tensor, call: CallBlock) -> Tensor:
        half, skips = len(self.en_inblocks), []
        for i in range(half):
            tokens = call(i, tokens, {"index": index})
            skips.append(tokens)
        for i in range(half, 2 * half):
            tokens = call(i, tokens, {"index": index, "skip": skips.pop()})
        return tokens

    def _decode(self, tokens: Tensor, start: Tensor, index: Tensor, call: CallBlock) -> Tensor:
        first = 2 * len(self.en_inblocks)
        for i in range(first, first + len(self.de_blocks)):
            tokens = call(i, tokens, {"index": index, "skip": start})
        return tokens
