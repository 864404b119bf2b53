"""The Diffusion Transformer with adaLN-Zero conditioning.

x -> patches + positions -> N blocks -> modulated linear -> patches back to an image.
State-dict keys are those of the published checkpoints.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D width, K classes.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers", ICCV 2023.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dit.errors import ConfigError
from dit.layers.attention import Attention
from dit.layers.embed import LabelEmbedder, PatchEmbed, TimestepEmbedder, unpatchify
from dit.layers.mlp import Mlp
from dit.layers.modulation import add_gated, layer_norm, modulate, modulation
from dit.layers.position import sincos_2d
from dit.layers.precision import dtype_of
from dit.models.cache import StepCache
from dit.models.dit.arguments import DiTArguments
from dit.models.fit import channel_ratio, fit_labels, fit_outputs, fit_patches
from dit.models.network import Network
from dit.models.prepared import Prepared


class DiTBlock(nn.Module):
    """Attention and MLP, each normalised, modulated and gated by the conditioning; the identity at initialisation."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = layer_norm(hidden_size)
        self.attn = Attention(hidden_size, num_heads)
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


LABELS = "y_embedder.embedding_table.weight"


class DiT(Network):
    """Class-conditional Diffusion Transformer over latents; see `DiTArguments` for what it is built from."""

    arguments: DiTArguments

    def __init__(self, arguments: DiTArguments) -> None:
        super().__init__(arguments)
        width, patch, channels = arguments.hidden_size, arguments.patch_size, arguments.in_channels
        self.x_embedder = PatchEmbed(channels, width, patch)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        # Not trained, yet a parameter: the published checkpoints and parameter counts hold it.
        rows, columns = arguments.grid_size
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, width), requires_grad=False)
        self.blocks = nn.ModuleList(
            DiTBlock(width, arguments.num_heads, arguments.mlp_width) for _ in range(arguments.depth)
        )
        self.final_layer = FinalLayer(width, patch**2 * channels * (2 if arguments.learn_sigma else 1))
        # On the meta device there is nothing to draw, and drawing would import torch's compiler for seconds.
        if not self.pos_embed.is_meta:
            self.initialize_weights()

    def initialize_weights(self) -> None:
        """Draw the weights as the paper's networks start: every block the identity, the output zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.flatten(1))
        assert self.x_embedder.proj.bias is not None
        nn.init.zeros_(self.x_embedder.proj.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.startswith("t_embedder.") and name.endswith(".weight"):
                nn.init.normal_(parameter, std=0.02)
            if name.endswith("adaLN_modulation.1.weight"):
                nn.init.zeros_(parameter)
        nn.init.zeros_(self.final_layer.linear.weight)
        with torch.no_grad():
            self.pos_embed.copy_(sincos_2d(self.pos_embed.shape[2], self.arguments.grid_size))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict from noised latents. Labels are taken as they are: dropping some of them is the training loop's.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time as the process embeds it, integer or real.
            y: (B,) int64 labels in [0, K]; K is the null class.

        Returns:
            (B, C, H, W), or (B, 2C, H, W) with `learn_sigma`.

        Raises:
            ConfigError: the latents have another shape than the network was built for.
        """
        return self.forward_intermediates(x_t, t, y)[0]

    def forward_intermediates(
        self, x_t: Tensor, t: Tensor, y: Tensor, *, after: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output of `forward`, and the tokens (B, T, D) after each of these numbers of blocks, from 1."""
        tokens = self.embed(x_t)  # (B, T, D)
        c = self.conditioning(t, y)  # (B, D)
        inner = c.to(dtype_of(self.blocks))
        kept = {}
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens, inner)
            if number in after:
                kept[number] = tokens
        output = self.leave(self.final_layer.adaLN_modulation(c.to(dtype_of(self.final_layer))), tokens)
        return output, [kept[number] for number in after]

    def prepare(
        self, t_grid: Tensor, y: Tensor, *, cache: Literal["static", "taylor"] | None = None, cache_interval: int = 2
    ) -> Prepared:
        """Compute beforehand what depends on times and labels alone, and return step(x_t, i) for sampling.

        Args:
            t_grid: (N,) times as the network embeds them.
            y: (R,) int64 labels of the rows.
            cache: kind of step caching; None computes every call.
            cache_interval: with a cache, every how many calls the blocks are computed.
        """
        return Prepared(self, t_grid, y, None if cache is None else StepCache(cache, cache_interval))

    def fit(self, weights: Mapping[str, Tensor], old: DiTArguments, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`."""
        new, fresh, times = self.arguments, self.state_dict(), channel_ratio(old, self.arguments)
        # The positions are computed and not trained.
        fitted = dict(weights) | {"pos_embed": fresh["pos_embed"]}
        fitted[LABELS] = fit_labels(fresh[LABELS], weights[LABELS], rows)
        fitted["x_embedder.proj.weight"] = fit_patches(weights["x_embedder.proj.weight"], times)
        parts = {"old_parts": 1 + old.learn_sigma, "new_parts": 1 + new.learn_sigma}
        for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
            fitted[name] = fit_outputs(fresh[name], weights[name], times, old.in_channels, **parts)
        return fitted

    def block_list(self) -> list[nn.Module]:
        """Return the blocks."""
        return list(self.blocks)

    def embed(self, x: Tensor) -> Tensor:
        """Return the tokens (B, T, D) of latents x (B, C, H, W), as the first block takes them."""
        if x.shape[1:] != (self.arguments.in_channels, *self.arguments.input_size):
            expected = "x".join(map(str, (self.arguments.in_channels, *self.arguments.input_size)))
            raise ConfigError(f"x: expected latents of {expected}, found {'x'.join(map(str, x.shape[1:]))}")
        # A convolution leaves the channels of a token apart in memory, and every block would inherit that.
        return (self.x_embedder(x) + self.pos_embed).to(dtype_of(self.blocks)).contiguous()

    def conditioning(self, t: Tensor, y: Tensor) -> Tensor:
        """Return the conditioning (..., D) for times t and labels y whose shapes broadcast to (...)."""
        return self.t_embedder(t) + self.y_embedder(y)

    def leave(self, modulation: Tensor, tokens: Tensor) -> Tensor:
        """Return the image (B, C or 2C, H, W) of the last block's tokens (B, T, D) and the final modulation (B, 2D)."""
        output = self.final_layer.modulated(tokens.to(dtype_of(self.final_layer)), modulation)
        return unpatchify(output, self.arguments.grid_size, self.arguments.patch_size)
