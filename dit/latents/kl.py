"""The KL autoencoder of latent diffusion models, by the names and the config.json of diffusers' `AutoencoderKL`.

Nearly every published DiT has this autoencoder. Having it here costs a page and saves every command the import of
diffusers' whole collection of networks, which takes longer than making an image.

B images of `in_channels` x H x W pixels; C latent channels, h x w positions.

Source: Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022, section 3.1, appendix G.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, scaled_dot_product_attention, silu

from dit.latents.kind import Autoencoder

EPS = 1e-6  # of every normalisation
DOWN_BLOCK_TYPES = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
"""What diffusers calls a level of the encoder without and with attention."""
UP_BLOCK_TYPES = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
"""What diffusers calls a level of the decoder without and with attention."""
_DEFAULTS = {  # of diffusers, whose configurations may leave out anything
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "block_out_channels": [64],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of diffusers before 0.18


class KLAutoencoder(Autoencoder):
    """Encoder to the mean and log-variance of a Gaussian over z, and decoder.

    Args:
        config: of diffusers' `AutoencoderKL`, one that `is_supported`.
    """

    is_gaussian = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        config = _DEFAULTS | dict(config)
        channels = config["latent_channels"]
        self.image_channels = config["in_channels"]
        self.num_moments = 2 * channels
        self.downscale = 2 ** (len(config["block_out_channels"]) - 1)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        if config["use_quant_conv"]:
            self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        if config["use_post_quant_conv"]:
            self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    @staticmethod
    def is_supported(config: Mapping[str, Any]) -> bool:
        """Tell whether a config.json of diffusers describes this network, and not a relative with other blocks."""
        described = _DEFAULTS | dict(config)
        return (
            config.get("_class_name") == "AutoencoderKL"
            and described["act_fn"] == "silu"
            and set(described["down_block_types"]) <= set(DOWN_BLOCK_TYPES)
            and set(described["up_block_types"]) <= set(UP_BLOCK_TYPES)
        )

    @staticmethod
    def current_name(name: str) -> str:
        """Return today's name of a tensor: the attention layers of older files are called otherwise."""
        path, _, kind = name.rpartition(".")
        path, _, layer = path.rpartition(".")
        return f"{path}.{_OLD_NAMES[layer]}.{kind}" if ".attentions." in path and layer in _OLD_NAMES else name

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, in_channels, H, W) to moments (B, 2C, h, w): C means, then C log-variances."""
        moments = self.encoder(images)
        return self.quant_conv(moments) if hasattr(self, "quant_conv") else moments

    def decode(self, z: Tensor) -> Tensor:
        """Decode z (B, C, h, w) to images (B, out_channels, H, W)."""
        return self.decoder(self.post_quant_conv(z) if hasattr(self, "post_quant_conv") else z)

    def decoder_parts(self) -> list[nn.Module]:
        """Return the modules that `decode` runs."""
        return [self.decoder, *([self.post_quant_conv] if hasattr(self, "post_quant_conv") else [])]


class Encoder(nn.Module):
    """Images to moments: each level has residual blocks; all but the last halve height and width."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths, groups = config["block_out_channels"], config["norm_num_groups"]
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        inputs, layers = [widths[0], *widths], config["layers_per_block"]
        with_attention = {i for i, name in enumerate(config["down_block_types"]) if name == DOWN_BLOCK_TYPES[1]}
        self.down_blocks = nn.ModuleList(
            Level(inputs[i], width, layers, groups, i in with_attention, Downsample if i + 1 < len(widths) else None)
            for i, width in enumerate(widths)
        )
        self.mid_block = Middle(widths[-1], groups, config["mid_block_add_attention"])
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config["latent_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return moments (B, 2C, h, w) for images x (B, in_channels, H, W)."""
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(_silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents to images: each level has one residual block more than the encoder's; all but the last double height."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths, groups = config["block_out_channels"][::-1], config["norm_num_groups"]
        self.conv_in = nn.Conv2d(config["latent_channels"], widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], groups, config["mid_block_add_attention"])
        inputs, layers = [widths[0], *widths], config["layers_per_block"] + 1
        with_attention = {i for i, name in enumerate(config["up_block_types"]) if name == UP_BLOCK_TYPES[1]}
        self.up_blocks = nn.ModuleList(
            Level(inputs[i], width, layers, groups, i in with_attention, Upsample if i + 1 < len(widths) else None)
            for i, width in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], config["out_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (B, out_channels, H, W) for latents x (B, C, h, w)."""
        x = self.mid_block(self.conv_in(x))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(_silu(self.conv_norm_out(x)))


class Level(nn.Module):
    """Residual blocks of one width, each perhaps followed by self-attention, then perhaps a change of size."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        num_blocks: int,
        groups: int,
        has_attention: bool,
        resize: "type[Downsample | Upsample] | None",
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            Residual(in_channels if i == 0 else width, width, groups) for i in range(num_blocks)
        )
        self.attentions = nn.ModuleList(Attention(width, groups) for _ in range(num_blocks) if has_attention)
        self.downsamplers = nn.ModuleList([resize(width)] if resize is Downsample else [])
        self.upsamplers = nn.ModuleList([resize(width)] if resize is Upsample else [])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H', W') for x (B, in_channels, H, W)."""
        for i, block in enumerate(self.resnets):
            x = block(x)
            if self.attentions:
                x = self.attentions[i](x)
        for resize in (*self.downsamplers, *self.upsamplers):
            x = resize(x)
        return x


class Middle(nn.Module):
    """Two residual blocks with self-attention between them."""

    def __init__(self, width: int, groups: int, has_attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(width, width, groups) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(width, groups)] if has_attention else [])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, h, w) for x of that shape."""
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, in_channels: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=EPS)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width, eps=EPS)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        if in_channels != width:
            self.conv_shortcut = nn.Conv2d(in_channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W) for x (B, in_channels, H, W)."""
        hidden = self.conv1(_silu(self.norm1(x)))
        hidden = self.conv2(_silu(self.norm2(hidden)))
        shortcut = self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x
        return shortcut + hidden if torch.is_grad_enabled() else hidden.add_(shortcut)


class Attention(nn.Module):
    """Self-attention of one head over all positions."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, h, w) for x of that shape."""
        tokens = self.group_norm(x.flatten(2)).transpose(1, 2)  # (B, h w, width)
        q, k, v = (layer(tokens)[:, None] for layer in (self.to_q, self.to_k, self.to_v))  # (B, 1, h w, width)
        mixed = self.to_out[0](scaled_dot_product_attention(q, k, v)[:, 0])
        return mixed.transpose(1, 2).reshape(x.shape) + x


class Downsample(nn.Module):
    """Every second position of a convolution; the missing border is on the right and at the bottom."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H/2, W/2) for x (B, width, H, W)."""
        return self.conv(pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Every position four times, then a convolution.

    Of the nine weights of the convolution several meet the same position again: each of the four outputs per input is
    a convolution of 2 x 2 with their sums. `merge` computes those, for 16 instead of 36 multiplications per input and
    channel pair.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.merged: Tensor | None = None

    @torch.no_grad()
    def merge(self, dtype: torch.dtype) -> None:
        """Go over to the merged weights (4 width, width, 2, 2), summed in float32 and held in another type."""
        rows = _halves(self.conv.weight.float(), dim=2)
        merged = torch.cat([part for row in rows for part in _halves(row, dim=3)])
        self.merged = merged.to(self.conv.weight.device, dtype, memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, 2H, 2W) for x (B, width, H, W)."""
        if self.merged is None:
            return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        bias = self.conv.get_parameter("bias").repeat(4)
        parts = conv2d(x, self.merged, bias, padding=1).chunk(4, dim=1)  # (B, width, H+1, W+1) each
        batch, width, height, breadth = x.shape
        out = x.new_empty(batch, 2 * height, 2 * breadth, width).movedim(-1, 1)  # channels last
        for part, (i, j) in zip(parts, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
            out[:, :, i::2, j::2] = part[:, :, i : i + height, j : j + breadth]
        return out


def _halves(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return what three weights in a row do to doubled input, at even and at odd outputs: two weights each."""
    first, second, third = weight.unbind(dim)
    return torch.stack([first, second + third], dim), torch.stack([first + second, third], dim)


def _silu(x: Tensor) -> Tensor:
    """Return the activation, in place of x where nothing needs x again: new memory costs more than the arithmetic."""
    return silu(x, inplace=not torch.is_grad_enabled())
