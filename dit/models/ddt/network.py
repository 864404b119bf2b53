"""DDT: an encoder makes one condition per token out of input, time and class; a decoder makes the velocity by it.

s = SiLU(time + encoder(x, time, class)), output = decoder(x, s): the decoder's blocks are modulated token by token. s
changes slowly along a trajectory, so that it can serve several steps. State-dict keys are those of the published files.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D width, d head width, K classes.

Source: Wang et al., "DDT: decoupled diffusion transformer", 2025, sections 3.2 and 3.4.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from dit.layers.attention import Attention
from dit.layers.embed import LabelEmbedder, TimestepEmbedder
from dit.layers.mlp import SeparateSwiGlu
from dit.layers.modulation import add_gated, layer_norm, modulate
from dit.layers.norm import rms_norm
from dit.layers.position import rotary_2d_scaled
from dit.models.ddt.arguments import DdtArguments
from dit.models.decoupled import LABELS, DecoupledTransformer
from dit.models.fit import channel_ratio, fit_labels


class TokenEmbed(nn.Module):
    """Patches with entries ordered (C, p, p), as tokens (B, T, C p^2), to (B, T, D)."""

    def __init__(self, num_values: int, hidden_size: int) -> None:
        super().__init__()
        self.proj = nn.Linear(num_values, hidden_size)

    def forward(self, patches: Tensor) -> Tensor:
        """Return (B, T, D) for patches (B, T, C p^2)."""
        return self.proj(patches)


class DdtBlock(nn.Module):
    """Attention and MLP, each normalised, modulated and gated by a condition, of the sample or of each token."""

    def __init__(self, arguments: DdtArguments) -> None:
        super().__init__()
        width = arguments.hidden_size
        self.norm1 = rms_norm(width)
        self.attn = Attention(width, arguments.num_heads, qkv_bias=False, qk_norm=rms_norm)
        self.norm2 = rms_norm(width)
        self.mlp = SeparateSwiGlu(width, arguments.mlp_width)
        # The condition has been through a SiLU already; the index in the published keys is 0.
        self.adaLN_modulation = nn.Sequential(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor | None, modulation: Tensor | None = None, *, rotary: Tensor) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D).

        Args:
            x: tokens.
            c: condition, (B, D) of the sample or (B, T, D) of each token.
            modulation: (..., 6D) what `adaLN_modulation` makes of c, where that is known already.
            rotary: (2, T, d/2) turns of queries and keys.
        """
        chunks: Tensor = self.adaLN_modulation(c) if modulation is None else modulation
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = chunks.chunk(6, dim=-1)  # each (B, [T,] D)
        x = add_gated(x, gate_msa, self.attn(modulate(self.norm1(x), shift_msa, scale_msa), rotary))
        return add_gated(x, gate_mlp, self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp)))


class FinalLayer(nn.Module):
    """Modulated normalisation, token by token, then a Linear to the values of a patch."""

    def __init__(self, hidden_size: int, num_values: int) -> None:
        super().__init__()
        self.norm_final = layer_norm(hidden_size)
        self.linear = nn.Linear(hidden_size, num_values)
        self.adaLN_modulation = nn.Sequential(nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Return (B, T, num_values) for tokens x and their condition c, each (B, T, D)."""
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class Ddt(DecoupledTransformer):
    """Class-conditional DDT over latents; see `DdtArguments` for what it is built from."""

    arguments: DdtArguments

    def __init__(self, arguments: DdtArguments) -> None:
        super().__init__(arguments)
        self.encoder_depth = arguments.encoder_depth
        width, num_values = arguments.hidden_size, arguments.patch_size**2 * arguments.in_channels
        self.x_embedder = TokenEmbed(num_values, width)
        self.s_embedder = TokenEmbed(num_values, width)
        self.t_embedder = TimestepEmbedder(width, max_period=10.0)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        self.blocks = nn.ModuleList(DdtBlock(arguments) for _ in range(arguments.depth))
        self.final_layer = FinalLayer(width, num_values)
        if not self.final_layer.linear.weight.is_meta:
            self.initialize_weights()

    def initialize_weights(self) -> None:
        """Draw the weights as published: the output zero, the blocks as torch draws them and not the identity."""
        for embedder in (self.x_embedder, self.s_embedder):
            nn.init.xavier_uniform_(embedder.proj.weight)
            nn.init.zeros_(embedder.proj.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for layer in self.t_embedder.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        for layer in (self.final_layer.linear, self.final_layer.adaLN_modulation[0]):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def enter_encoder(self, x: Tensor) -> Tensor:
        """Return the encoder's tokens (B, T, D) of latents x (B, C, H, W)."""
        return self.s_embedder(self._patches(x))

    def enter_decoder(self, x: Tensor) -> Tensor:
        """Return the decoder's tokens (B, T, D) of latents x (B, C, H, W)."""
        return self.x_embedder(self._patches(x))

    def block_inputs(self, *, of_decoder: bool) -> dict[str, Tensor]:
        """Return the turns of queries and keys."""
        device = self.final_layer.linear.weight.device
        return {"rotary": rotary_2d_scaled(self.arguments.head_size, self.arguments.grid_size, device=device)}

    def leave(self, tokens: Tensor, state: Tensor) -> Tensor:
        """Return the image (B, C, H, W) of the last block's tokens and their condition, each (B, T, D)."""
        values = self.final_layer(tokens, state).transpose(1, 2)  # (B, C p^2, T)
        return pixel_shuffle(values.unflatten(2, self.arguments.grid_size), self.arguments.patch_size)

    def fit(self, weights: Mapping[str, Tensor], old: DdtArguments, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`."""
        fresh, times = self.state_dict(), channel_ratio(old, self.arguments)
        fitted = dict(weights) | {LABELS: fit_labels(fresh[LABELS], weights[LABELS], rows)}
        if times > 1:  # channels come first among a patch's values, so that repeating them repeats columns and rows
            for name in ("x_embedder.proj.weight", "s_embedder.proj.weight"):
                fitted[name] = weights[name].repeat(1, times) / times
            for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
                fitted[name] = weights[name].repeat(times, *[1] * (weights[name].dim() - 1))
        return fitted

    def _patches(self, x: Tensor) -> Tensor:
        """Cut (B, C, H, W) into patches (B, T, C p^2), row by row, with entries ordered (C, p, p)."""
        return pixel_unshuffle(x, self.arguments.patch_size).flatten(2).transpose(1, 2)
