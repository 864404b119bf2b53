"""U-ViT: a plain transformer over the tokens of time, class and patches, its first half linked to its second.

[class, time, patches] + positions -> N/2 blocks -> one block -> N/2 blocks with skips -> linear -> patches to an image.
State-dict keys are those of the published checkpoints.

B batch, C channels, H x W latent or image, p patch, E tokens of class and time, T = HW/p^2 patches, D width, K classes.

Source: Bao et al., "All are worth words: a ViT backbone for diffusion models", CVPR 2023, section 3.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from dit.errors import ConfigError
from dit.layers.attention import Attention
from dit.layers.embed import PatchEmbed, timestep_frequencies, unpatchify
from dit.layers.linear import linear
from dit.layers.precision import dtype_of
from dit.models.fit import channel_ratio, expect_size, fit_labels, fit_outputs, fit_patches
from dit.models.network import Network
from dit.models.uvit.arguments import UViTArguments

LABELS = "label_emb.weight"


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, mlp_size)
        self.fc2 = nn.Linear(mlp_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        return linear(gelu(linear(x, self.fc1)), self.fc2)


class UViTBlock(nn.Module):
    """Attention and MLP, each normalised, and where asked for a skip from an earlier block."""

    def __init__(self, arguments: UViTArguments, *, has_skip: bool = False) -> None:
        super().__init__()
        width = arguments.hidden_size
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, arguments.num_heads, qkv_bias=arguments.qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, arguments.mlp_width)
        self.skip_linear = nn.Linear(2 * width, width) if has_skip else None

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D) and, for a block with a skip, those of an earlier block."""
        if self.skip_linear is not None:
            assert skip is not None
            x = linear(torch.cat([x, skip], dim=-1), self.skip_linear)
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class UViT(Network):
    """Class-conditional or unconditional U-ViT; see `UViTArguments` for what it is built from."""

    arguments: UViTArguments

    def __init__(self, arguments: UViTArguments) -> None:
        super().__init__(arguments)
        width, patch, channels = arguments.hidden_size, arguments.patch_size, arguments.in_channels
        rows, columns = arguments.grid_size
        self.patch_embed = PatchEmbed(channels, width, patch)
        layers = [nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)]
        self.time_embed = nn.Sequential(*(layers if arguments.time_mlp else ()))
        if arguments.has_classes:
            num_rows = arguments.num_classes + (arguments.null_class is not None)
            weight = torch.empty(num_rows, width)  # a given weight is not drawn, which on the meta device takes seconds
            self.label_emb = nn.Embedding(num_rows, width, _weight=weight)
        self.pos_embed = nn.Parameter(torch.empty(1, arguments.num_extra_tokens + rows * columns, width))
        self.in_blocks = nn.ModuleList(UViTBlock(arguments) for _ in range(arguments.depth // 2))
        self.mid_block = UViTBlock(arguments)
        self.out_blocks = nn.ModuleList(UViTBlock(arguments, has_skip=True) for _ in range(arguments.depth // 2))
        self.norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, patch**2 * channels)
        convolution = nn.Conv2d(channels, channels, 3, padding=1) if arguments.final_convolution else nn.Identity()
        self.final_layer = convolution
        if not self.pos_embed.is_meta:
            self.initialize_weights()

    def initialize_weights(self) -> None:
        """Draw linear layers and positions from N(0, 0.02), cut off, and the label table from N(0, 1)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict from noised latents or images.

        Args:
            x_t: (B, C, H, W) noised latents or images.
            t: (B,) time as the process embeds it.
            y: (B,) int64 labels in [0, K]; K is the null class. Without classes they are not read.

        Returns:
            (B, C, H, W).

        Raises:
            ConfigError: the input has another shape than the network was built for.
        """
        arguments = self.arguments
        self.check_input(x_t)
        tokens = self._embed(x_t, t, y).to(dtype_of(self.mid_block))  # (B, E + T, D)
        skips = []
        for block in self.in_blocks:
            tokens = block(tokens)
            skips.append(tokens)
        tokens = self.mid_block(tokens)
        for block in self.out_blocks:
            tokens = block(tokens, skips.pop())
        output = self.decoder_pred(self.norm(tokens.to(dtype_of(self.norm))))[:, arguments.num_extra_tokens :]
        return self.final_layer(unpatchify(output, arguments.grid_size, arguments.patch_size))

    def block_list(self) -> list[nn.Module]:
        """Return the blocks in the order they run."""
        return [*self.in_blocks, self.mid_block, *self.out_blocks]

    def fit(self, weights: Mapping[str, Tensor], old: UViTArguments, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`.

        Raises:
            ConfigError: the input has another size, its channels are no multiple, or one of the two has no classes.
        """
        new, fresh = self.arguments, self.state_dict()
        expect_size(old, new)
        if old.has_classes != new.has_classes:
            raise ConfigError(
                f"model.num_classes: expected {old.num_classes} as of the weights, found {new.num_classes}"
            )
        fitted, times = dict(weights), channel_ratio(old, new)
        if new.has_classes:
            fitted[LABELS] = fit_labels(fresh[LABELS], weights[LABELS], rows)
        fitted["patch_embed.proj.weight"] = fit_patches(weights["patch_embed.proj.weight"], times)
        for name in ("decoder_pred.weight", "decoder_pred.bias"):
            fitted[name] = fit_outputs(fresh[name], weights[name], times, old.in_channels, old_parts=1, new_parts=1)
        if new.final_convolution:
            weight = weights["final_layer.weight"]
            fitted["final_layer.weight"] = fit_patches(weight.repeat(times, 1, 1, 1), times)
            fitted["final_layer.bias"] = weights["final_layer.bias"].repeat(times)
        return fitted

    def _embed(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Return the tokens (B, E + T, D) as the first block takes them."""
        frequencies = timestep_frequencies(self.arguments.hidden_size // 2, device=t.device)
        angles = t.float()[:, None] * frequencies  # (B, D/2)
        time = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.pos_embed.dtype)
        extra = [self.time_embed(time)]
        if self.arguments.has_classes:
            extra = [self.label_emb(y), *extra]
        return torch.cat([torch.stack(extra, dim=1), self.patch_embed(x)], dim=1) + self.pos_embed
