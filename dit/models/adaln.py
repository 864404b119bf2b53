"""What transformers have in common whose blocks see time and label through their modulation alone.

x -> patches + positions -> N blocks -> modulated linear -> patches back to an image; the blocks are a family's own.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D width, K classes.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers", ICCV 2023.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dit.errors import ConfigError
from dit.layers.embed import unpatchify
from dit.layers.position import sincos_2d
from dit.layers.precision import dtype_of
from dit.models.cache import StepCache
from dit.models.fit import channel_ratio, fit_labels, fit_outputs, fit_patches
from dit.models.network import Network
from dit.models.patches import PatchArguments
from dit.models.prepared import CallBlock, Prepared

LABELS = "y_embedder.embedding_table.weight"


class AdaLNTransformer(Network):
    """Base of the families with modulated blocks: embedding, the way through the blocks, output, and fitting."""

    arguments: PatchArguments
    x_embedder: nn.Module
    t_embedder: nn.Module
    y_embedder: nn.Module
    pos_embed: nn.Parameter
    """(1, T, D) positions; not trained, yet a parameter: published checkpoints and parameter counts hold it."""
    final_layer: Any
    output_parts = 1
    """2 where the output has a second half for the variance."""

    def initialize_weights(self) -> None:
        """Draw the weights as the paper's networks start: every block the identity, the output zero."""
        # Kind by kind: the order of the draws is part of what a seed means.
        for kind in (nn.Linear, nn.Conv2d):
            for module in (module for module in self.modules() if isinstance(module, kind)):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.startswith(("t_embedder.mlp", "r_embedder.mlp")) and name.endswith(".weight"):
                nn.init.normal_(parameter, std=0.02)
            if name.endswith("adaLN_modulation.1.weight"):
                nn.init.zeros_(parameter)
        nn.init.zeros_(self.final_layer.linear.weight)
        with torch.no_grad():
            self.pos_embed.copy_(sincos_2d(self.pos_embed.shape[2], self.arguments.grid_size))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor, **conditions: Any) -> Tensor:
        """Predict from noised latents. Labels are taken as they are: dropping some of them is the training loop's.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time as the process embeds it, integer or real.
            y: (B,) int64 labels in [0, K]; K is the null class.
            conditions: what the family's `conditioning` takes besides.

        Returns:
            (B, C, H, W), or (B, 2C, H, W) with a half for the variance.

        Raises:
            ConfigError: the latents have another shape than the network was built for.
        """
        return self.forward_intermediates(x_t, t, y, **conditions)[0]

    def forward_intermediates(
        self, x_t: Tensor, t: Tensor, y: Tensor, *, after: Sequence[int] = (), **conditions: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output of `forward`, and the tokens (B, T, D) after each of these numbers of blocks, from 1."""
        return self.run(x_t, t, y, after, conditions)

    def run(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        after: Sequence[int],
        conditions: Mapping[str, Tensor],
        around: Callable[[CallBlock], CallBlock] = lambda call: call,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `forward_intermediates` does, with `around` the call of a block."""
        tokens = self.embed(x_t)  # (B, T, D)
        c = self.conditioning(t, y, **conditions)  # (B, D)
        blocks, kept, num_tokens = self.block_list(), {}, tokens.shape[1]
        inner = c.to(tokens.dtype)
        through = around(lambda i, tokens, inputs: blocks[i](tokens, inner, **inputs))

        def call(i: int, tokens: Tensor, inputs: dict[str, Tensor]) -> Tensor:
            tokens = through(i, tokens, inputs)
            if i + 1 in after:
                kept[i + 1] = tokens[:, -num_tokens:]
            return tokens

        tokens = self.run_blocks(tokens, y, call)
        output = self.leave(self.final_layer.adaLN_modulation(c.to(dtype_of(self.final_layer))), tokens)
        return output, [kept[number] for number in after]

    def prepare(
        self,
        t_grid: Tensor,
        y: Tensor,
        *,
        cache: Literal["static", "taylor"] | None = None,
        cache_interval: int = 2,
        **conditions: Tensor,
    ) -> Prepared:
        """Compute beforehand what depends on times and labels alone, and return step(x_t, i) for sampling.

        Args:
            t_grid: (N,) times as the network embeds them.
            y: (R,) int64 labels of the rows.
            cache: kind of step caching; None computes every call.
            cache_interval: with a cache, every how many calls the blocks are computed.
            conditions: each (N,), what the family's `conditioning` takes besides.
        """
        return Prepared(self, t_grid, y, None if cache is None else StepCache(cache, cache_interval), conditions)

    def fit(self, weights: Mapping[str, Tensor], old: Any, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`."""
        fresh, times = self.state_dict(), channel_ratio(old, self.arguments)
        # The positions are computed and not trained.
        fitted = dict(weights) | {"pos_embed": fresh["pos_embed"]}
        fitted[LABELS] = fit_labels(fresh[LABELS], weights[LABELS], rows)
        entrance = next(name for name in fresh if name.startswith("x_embedder.") and name.endswith("weight"))
        fitted[entrance] = fit_patches(weights[entrance], times)
        for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
            old_parts = weights[name].shape[0] // (old.patch_size**2 * old.in_channels)
            parts = {"old_parts": old_parts, "new_parts": self.output_parts}
            fitted[name] = fit_outputs(fresh[name], weights[name], times, old.in_channels, **parts)
        return fitted

    def block_list(self) -> list[nn.Module]:
        """Return the blocks."""
        return list(self.get_submodule("blocks").children())

    def run_blocks(self, tokens: Tensor, y: Tensor, call: CallBlock) -> Tensor:
        """Take the tokens (B, T, D) of samples with labels y (B,) through all blocks."""
        inputs = self.block_inputs()
        for i in range(len(self.block_list())):
            tokens = call(i, tokens, inputs)
        return tokens

    def block_inputs(self) -> dict[str, Tensor]:
        """Return what every block takes besides tokens and conditioning, by name."""
        return {}

    def embed(self, x: Tensor) -> Tensor:
        """Return the tokens (B, T, D) of latents x (B, C, H, W), as the first block takes them."""
        self.check_input(x)
        # A convolution leaves the channels of a token apart in memory, and every block would inherit that.
        return (self.x_embedder(x) + self.pos_embed).to(dtype_of(self.block_list()[0])).contiguous()

    def conditioning(self, t: Tensor, y: Tensor, **conditions: Tensor) -> Tensor:
        """Return the conditioning (..., D) for times t and labels y whose shapes broadcast to (...).

        Raises:
            ConfigError: the network is told something that it does not take.
        """
        if conditions:
            raise ConfigError(f"{min(conditions)}: expected time and class alone, as this network takes them, found it")
        return self.t_embedder(t) + self.y_embedder(y)

    def leave(self, modulation: Tensor, tokens: Tensor) -> Tensor:
        """Return the image (B, C or 2C, H, W) of the last block's tokens (B, T, D) and the final modulation (B, 2D)."""
        output = self.final_layer.modulated(tokens.to(dtype_of(self.final_layer)), modulation)
        return unpatchify(output, self.arguments.grid_size, self.arguments.patch_size)
