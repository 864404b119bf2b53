"""DDT: an encoder makes one condition per token out of input, time and class; a decoder makes the velocity by it.

s = SiLU(time + encoder(x, time, class)), output = decoder(x, s): the decoder's blocks are modulated token by token. s
changes slowly along a trajectory, so that it can serve several steps. State-dict keys are those of the published files.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D width, d head width, K classes.

Source: Wang et al., "DDT: decoupled diffusion transformer", 2025, sections 3.2 and 3.4.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dit.errors import ConfigError
from dit.layers.attention import Attention
from dit.layers.embed import LabelEmbedder, TimestepEmbedder
from dit.layers.mlp import SeparateSwiGlu
from dit.layers.modulation import add_gated, layer_norm, modulate
from dit.layers.norm import rms_norm
from dit.layers.position import rotary_2d_scaled
from dit.layers.precision import dtype_of
from dit.models.ddt.arguments import DdtArguments
from dit.models.fit import channel_ratio, fit_labels
from dit.models.network import Network, Step

LABELS = "y_embedder.embedding_table.weight"


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

    def forward(self, x: Tensor, c: Tensor, rotary: Tensor) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D), a condition c (B, 1 or T, D) and turns (2, T, d/2)."""
        chunks = self.adaLN_modulation(c).chunk(6, dim=-1)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = chunks  # each (B, 1 or T, D)
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


class Ddt(Network):
    """Class-conditional DDT over latents; see `DdtArguments` for what it is built from."""

    arguments: DdtArguments

    def __init__(self, arguments: DdtArguments) -> None:
        super().__init__(arguments)
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
        """Return the output of `forward`, and the tokens (B, T, D) after each of these numbers of blocks, from 1."""
        patches, rotary = self._patches(x_t), self._rotary(x_t)
        kept: dict[int, Any] = dict.fromkeys(after)
        state = self._encode(patches, t, y, rotary, kept)
        output = self._decode(patches, state, rotary, kept)
        return output, [kept[number] for number in after]

    def encode(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Return the condition of each token, (B, T, D), which `decode` takes; see `forward`."""
        return self._encode(self._patches(x_t), t, y, self._rotary(x_t), {})

    def decode(self, x_t: Tensor, state: Tensor) -> Tensor:
        """Return the output (B, C, H, W) at x_t (B, C, H, W) by the condition of its tokens (B, T, D)."""
        return self._decode(self._patches(x_t), state, self._rotary(x_t), {})

    def prepare(
        self, t_grid: Tensor, y: Tensor, *, cache: Literal["encoder"] | None = None, cache_interval: int = 2
    ) -> Step:
        """Return step(x_t, i, rows) for sampling.

        Args:
            t_grid: (N,) times as the network embeds them.
            y: (R,) int64 labels of the rows, for guidance those of both branches.
            cache: encoder: its state serves several steps.
            cache_interval: with a cache, at every how many times of the grid the encoder runs.

        Raises:
            ConfigError: another kind of cache.
        """
        if cache not in (None, "encoder"):
            raise ConfigError(f"sampling.cache: expected off or encoder with this network, found {cache}")
        known: tuple[int, Tensor] | None = None

        @torch.no_grad()
        def step(x_t: Tensor, i: int, rows: slice = slice(None)) -> Tensor:
            nonlocal known
            labels = y[rows]
            x = x_t.repeat(len(labels) // len(x_t), 1, 1, 1)
            if cache is None:
                return self(x, t_grid[i].expand(len(x)), labels)
            if known is None or known[0] != i // cache_interval:
                # For all rows, also those that are not asked for now: a later step may ask for them.
                everything = x_t.repeat(len(y) // len(x_t), 1, 1, 1)
                known = i // cache_interval, self.encode(everything, t_grid[i].expand(len(y)), y)
            return self.decode(x, known[1][rows])

        return step

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

    def block_list(self) -> list[nn.Module]:
        """Return the blocks of encoder and decoder."""
        return list(self.blocks)

    def _encode(self, patches: Tensor, t: Tensor, y: Tensor, rotary: Tensor, kept: dict[int, Any]) -> Tensor:
        time = self.t_embedder(t)[:, None]  # (B, 1, D)
        condition = silu(time + self.y_embedder(y)[:, None])
        tokens = self._run(self.s_embedder(patches), condition, rotary, 0, self.arguments.encoder_depth, kept)
        return silu(time + tokens)

    def _decode(self, patches: Tensor, state: Tensor, rotary: Tensor, kept: dict[int, Any]) -> Tensor:
        arguments = self.arguments
        tokens = self._run(self.x_embedder(patches), state, rotary, arguments.encoder_depth, arguments.depth, kept)
        values = self.final_layer(tokens, state)  # (B, T, C p^2)
        p, (rows, columns) = arguments.patch_size, arguments.grid_size
        values = values.unflatten(1, (rows, columns)).unflatten(-1, (-1, p, p))  # (B, rows, columns, C, p, p)
        return values.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def _run(
        self, tokens: Tensor, condition: Tensor, rotary: Tensor, first: int, last: int, kept: dict[int, Any]
    ) -> Tensor:
        """Take the tokens through blocks first..last - 1, in the blocks' type, and back to their own."""
        outer, inner = tokens.dtype, dtype_of(self.blocks)
        tokens, condition = tokens.to(inner), condition.to(inner)
        for i in range(first, last):
            tokens = self.blocks[i](tokens, condition, rotary)
            if i + 1 in kept:
                kept[i + 1] = tokens
        return tokens.to(outer)

    def _rotary(self, x: Tensor) -> Tensor:
        return rotary_2d_scaled(self.arguments.head_size, self.arguments.grid_size, device=x.device)

    def _patches(self, x: Tensor) -> Tensor:
        """Cut (B, C, H, W) into patches (B, T, C p^2), row by row."""
        if x.shape[1:] != (self.arguments.in_channels, *self.arguments.input_size):
            expected = "x".join(map(str, (self.arguments.in_channels, *self.arguments.input_size)))
            raise ConfigError(f"x: expected latents of {expected}, found {'x'.join(map(str, x.shape[1:]))}")
        p = self.arguments.patch_size
        patches = x.unflatten(2, (-1, p)).unflatten(4, (-1, p))  # (B, C, rows, p, columns, p)
        return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
