"""MaskDiT: DiT's blocks on the tokens that are seen, then a narrower decoder on all of them.

State-dict keys are those of the published checkpoints; the label table there is a layer over one-hot labels, without a
null row: the null class is the zero vector.

B batch, C latent channels, T tokens, T' kept tokens, D width, E decoder width, K classes.

Source: Zheng et al., "Fast training of diffusion models with masked transformers", TMLR 2024, section 3.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from dit.layers.attention import Attention
from dit.layers.embed import PatchEmbed, TimestepEmbedder
from dit.layers.mlp import Mlp
from dit.layers.modulation import add_gated, layer_norm, modulate
from dit.layers.position import sincos_2d
from dit.layers.precision import dtype_of
from dit.models.adaln import LABELS, AdaLNTransformer
from dit.models.dit.network import DiTBlock
from dit.models.fit import fit_labels
from dit.models.maskdit.arguments import MaskDiTArguments
from dit.models.prepared import CallBlock


class OneHotEmbedder(nn.Module):
    """Class label (...) to (..., D): a column of a layer over one-hot labels, zero for the null class K."""

    def __init__(self, num_classes: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding_table = nn.Linear(num_classes, hidden_size, bias=False)

    def forward(self, y: Tensor) -> Tensor:
        """Return (..., D) for y (...) int64 in [0, K]."""
        table = self.embedding_table.weight.t()  # (K, D)
        found = embedding(y.clamp(max=len(table) - 1), table)
        return found * (y < len(table))[..., None]


class NarrowingLayer(nn.Module):
    """Modulated normalisation, then a Linear to another width, with the modulation of a condition of width D."""

    def __init__(self, width: int, num_values: int, condition_size: int) -> None:
        super().__init__()
        self.norm = layer_norm(width)
        self.linear = nn.Linear(width, num_values)
        self.adaLN_modulation = modulation_of(condition_size, 2 * width)

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Return (B, T, num_values) for tokens x (B, T, width) and what `adaLN_modulation` makes of c."""
        shift, scale = modulation.chunk(2, dim=-1)
        return self.linear(modulate(self.norm(x), shift, scale))

    def forward(self, x: Tensor, c: Tensor | None, modulation: Tensor | None = None) -> Tensor:
        """Return `modulated`, with the modulation of c (B, D) where it is not known already."""
        return self.modulated(x, self.adaLN_modulation(c) if modulation is None else modulation)


class DecoderBlock(nn.Module):
    """DiT's block with a condition of another width than its tokens."""

    def __init__(self, arguments: MaskDiTArguments) -> None:
        super().__init__()
        width = arguments.decoder_hidden_size
        self.norm1 = layer_norm(width)
        self.attn = Attention(width, arguments.decoder_num_heads)
        self.norm2 = layer_norm(width)
        self.mlp = Mlp(width, arguments.decoder_mlp_width)
        self.adaLN_modulation = modulation_of(arguments.hidden_size, 6 * width)

    def forward(self, x: Tensor, c: Tensor | None, modulation: Tensor | None = None) -> Tensor:
        """Return (B, T, E) for tokens x (B, T, E); see `DiTBlock.forward`."""
        chunks: Tensor = self.adaLN_modulation(c) if modulation is None else modulation
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = chunks.chunk(6, dim=1)  # each (B, E)
        x = add_gated(x, gate_msa, self.attn(modulate(self.norm1(x), shift_msa, scale_msa)))
        return add_gated(x, gate_mlp, self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp)))


def modulation_of(condition_size: int, num_values: int) -> nn.Sequential:
    """Return SiLU and a Linear from a condition (B, D) to (B, num_values)."""
    return nn.Sequential(nn.SiLU(), nn.Linear(condition_size, num_values))


class MaskDiT(AdaLNTransformer):
    """Class-conditional MaskDiT over latents; see `MaskDiTArguments` for what it is built from."""

    arguments: MaskDiTArguments
    masked_only = ("mask_token",)

    def __init__(self, arguments: MaskDiTArguments) -> None:
        super().__init__(arguments)
        width, patch, channels = arguments.hidden_size, arguments.patch_size, arguments.in_channels
        narrow = arguments.decoder_hidden_size
        self.x_embedder = PatchEmbed(channels, width, patch)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = OneHotEmbedder(arguments.num_classes, width)
        rows, columns = arguments.grid_size
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, width), requires_grad=False)
        self.decoder_pos_embed = nn.Parameter(torch.empty(1, rows * columns, narrow), requires_grad=False)
        self.mask_token = nn.Parameter(torch.empty(1, 1, narrow))
        self.blocks = nn.ModuleList(
            DiTBlock(width, arguments.num_heads, arguments.mlp_width) for _ in range(arguments.depth)
        )
        self.decoder_layer = NarrowingLayer(width, narrow, width)
        self.decoder_blocks = nn.ModuleList(DecoderBlock(arguments) for _ in range(arguments.decoder_depth))
        self.final_layer = NarrowingLayer(narrow, patch**2 * channels, width)
        if not self.pos_embed.is_meta:
            self.initialize_weights()

    def initialize_weights(self) -> None:
        """Draw the weights as `AdaLNTransformer` does; labels and mask token N(0, 0.02), the decoder's entry zero."""
        super().initialize_weights()
        nn.init.normal_(self.get_parameter(LABELS), std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.zeros_(self.decoder_layer.linear.weight)
        with torch.no_grad():
            self.decoder_pos_embed.copy_(sincos_2d(self.arguments.decoder_hidden_size, self.arguments.grid_size))

    def fit(self, weights: Mapping[str, Tensor], old: MaskDiTArguments, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`."""
        fresh, classes = self.state_dict(), self.arguments.num_classes
        rows = {new: before for new, before in rows.items() if new < classes and before < old.num_classes}
        labels = fit_labels(fresh[LABELS].t(), weights[LABELS].t(), rows).t().contiguous()
        fitted = super().fit(weights, old, {})
        return fitted | {LABELS: labels, "decoder_pos_embed": fresh["decoder_pos_embed"]}

    def block_list(self) -> list[nn.Module]:
        """Return the blocks, with the layer between encoder and decoder among them."""
        return [*self.blocks, self.decoder_layer, *self.decoder_blocks]

    def run_blocks(self, tokens: Tensor, y: Tensor, call: CallBlock) -> Tensor:
        """Take the tokens (B, T, D) through encoder and decoder: (B, T, E)."""
        return self._decode(self._encode(tokens, call), call)

    def forward_masked(self, x_t: Tensor, t: Tensor, y: Tensor, keep: Tensor) -> Tensor:
        """Return the output (B, C, H, W) where the encoder sees only the tokens keep (B, T') int64.

        Source: MaskDiT, section 3.1.
        """
        tokens, c = self.embed(x_t), self.conditioning(t, y)
        inner, blocks = c.to(tokens.dtype), self.block_list()
        kept = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))

        def call(i: int, tokens: Tensor, inputs: dict[str, Tensor]) -> Tensor:
            return blocks[i](tokens, inner, **inputs)

        kept = self._encode(kept, call)  # (B, T', E)
        whole = self.mask_token.to(kept.dtype).expand(len(kept), tokens.shape[1], -1)
        tokens = self._decode(whole.scatter(1, keep[..., None].expand_as(kept), kept), call)
        return self.leave(self.final_layer.adaLN_modulation(c.to(dtype_of(self.final_layer))), tokens)

    def _encode(self, tokens: Tensor, call: CallBlock) -> Tensor:
        for i in range(self.arguments.depth + 1):
            tokens = call(i, tokens, {})
        return tokens

    def _decode(self, tokens: Tensor, call: CallBlock) -> Tensor:
        tokens = tokens + self.decoder_pos_embed.to(tokens.dtype)
        for i in range(self.arguments.depth + 1, len(self.block_list())):
            tokens = call(i, tokens, {})
        return tokens
