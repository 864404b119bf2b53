"""The Diffusion Transformer with adaLN-Zero conditioning.

x -> patches + positions -> N blocks -> modulated linear -> patches back to an image.
State-dict keys are those of the published checkpoints.

B batch, C latent channels, H x W latent, p patch, T = HW/p^2 tokens, D width, K classes.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers", ICCV 2023.
"""

from typing import Any, Literal, Self

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
from dit.models.prepared import Prepared
from dit.models.variants import check_arguments, label_rows


class DiTBlock(nn.Module):
    """Attention and MLP, each normalised, modulated and gated by the conditioning; the identity at initialisation."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = layer_norm(hidden_size)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = layer_norm(hidden_size)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio))
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


class DiT(nn.Module):
    """Class-conditional Diffusion Transformer over latents.

    Args:
        input_size: latent height and width, or one number for both; multiples of `patch_size`.
        patch_size: side p of a patch.
        in_channels: latent channels C.
        hidden_size: width D.
        depth: number of blocks.
        num_heads: attention heads; divides `hidden_size`.
        mlp_ratio: width of the MLP over D.
        class_dropout_prob: share of labels that training drops; above 0 the label table has a row for the null class.
        num_classes: K; 0 means unconditional, the null class alone.
        learn_sigma: whether the output has C further channels for the variance.

    Raises:
        ConfigError: the arguments do not fit each other.
    """

    def __init__(
        self,
        *,
        input_size: int | tuple[int, int],
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int,
        learn_sigma: bool = True,
    ) -> None:
        super().__init__()
        height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
        self.config: dict[str, Any] = {
            "input_size": (height, width),
            "patch_size": patch_size,
            "in_channels": in_channels,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "class_dropout_prob": class_dropout_prob,
            "num_classes": num_classes,
            "learn_sigma": learn_sigma,
        }
        check_arguments(self.config)
        self.input_size = (height, width)
        self.grid_size = (height // patch_size, width // patch_size)
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.learn_sigma = learn_sigma
        self.null_class = num_classes if label_rows(self.config) > num_classes else None
        self.x_embedder = PatchEmbed(in_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(label_rows(self.config), hidden_size)
        # Not trained, yet a parameter: the published checkpoints and parameter counts hold it.
        num_tokens = self.grid_size[0] * self.grid_size[1]
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, hidden_size), requires_grad=False)
        self.blocks = nn.ModuleList(DiTBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, patch_size**2 * in_channels * (2 if learn_sigma else 1))
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
            self.pos_embed.copy_(sincos_2d(self.pos_embed.shape[2], self.grid_size))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict from noised latents.

        Args:
            x: (B, C, H, W) noised latents.
            t: (B,) time as the process embeds it, integer or real.
            y: (B,) int64 labels in [0, K]; K is the null class.

        Returns:
            (B, C, H, W), or (B, 2C, H, W) with `learn_sigma`.

        Raises:
            ConfigError: the latents have another shape than the network was built for.
        """
        if x.shape[1:] != (self.in_channels, *self.input_size):
            expected = "x".join(map(str, (self.in_channels, *self.input_size)))
            raise ConfigError(f"x: expected latents of {expected}, found {'x'.join(map(str, x.shape[1:]))}")
        tokens = self.embed(x)  # (B, T, D)
        c = self.t_embedder(t) + self.y_embedder(y)  # (B, D)
        inner = c.to(dtype_of(self.blocks))
        for block in self.blocks:
            tokens = block(tokens, inner)
        return self.leave(self.final_layer.adaLN_modulation(c.to(dtype_of(self.final_layer))), tokens)

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

    def blocks_in(self, dtype: torch.dtype) -> Self:
        """Hold and compute the blocks in another type and return the network; what is small stays as it is.

        So the embeddings, the output layer, inputs and outputs keep their precision.
        """
        self.blocks.to(dtype)
        return self

    def compile_blocks(self) -> Self:
        """Compile one block for all of them, in place, and return the network; names of parameters stay as they are."""
        for block in self.blocks:
            block.compile()
        return self

    def embed(self, x: Tensor) -> Tensor:
        """Return the tokens (B, T, D) of latents x (B, C, H, W), as the first block takes them."""
        # A convolution leaves the channels of a token apart in memory, and every block would inherit that.
        return (self.x_embedder(x) + self.pos_embed).to(dtype_of(self.blocks)).contiguous()

    def leave(self, modulation: Tensor, tokens: Tensor) -> Tensor:
        """Return the image (B, C or 2C, H, W) of the last block's tokens (B, T, D) and the final modulation (B, 2D)."""
        output = self.final_layer.modulated(tokens.to(dtype_of(self.final_layer)), modulation)
        return unpatchify(output, self.grid_size, self.patch_size)
