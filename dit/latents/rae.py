"""The representation autoencoder: a frozen image encoder, and a transformer that was trained to decode its tokens.

    z = tokens of DINOv2 as a map (D, S, S)          latents = (z - mean) / std, each of (D, S, S)
    image = patches of decoder(latents std + mean)

By the names and the config.json of diffusers' `AutoencoderRAE`, except that the statistics, of every channel at every
position, stand in the file of the weights alone, and that positions of the decoder that the file holds are used.

B images; D width of the encoder, W of the decoder; S x S tokens, T = S^2; p pixels a side of a decoded patch.

Source: Zheng et al., "Diffusion transformers with representation autoencoders", 2025, section 3.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from dit.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, Preparation
from dit.errors import DitError
from dit.latents.kind import Autoencoder
from dit.layers.position import sincos_2d
from dit.tensors import check_tensors

CLASS_NAME = "AutoencoderRAE"
LAYER_NORM_EPS = 1e-12
STD_EPS = 1e-5
"""What diffusers adds to the deviation in the file; the variance of the original has it inside the root."""
_DEFAULTS = {  # of diffusers
    "encoder_type": "dinov2",
    "encoder_hidden_size": 768,
    "encoder_patch_size": 14,
    "encoder_input_size": 224,
    "decoder_hidden_size": 512,
    "decoder_num_hidden_layers": 8,
    "decoder_num_attention_heads": 16,
    "decoder_intermediate_size": 2048,
    "patch_size": 16,
    "num_channels": 3,
    "scaling_factor": 1.0,
}
_LARGEST = dict.fromkeys([key for key, value in _DEFAULTS.items() if type(value) is int], 16384) | {
    "encoder_input_size": 4096,
    "decoder_num_hidden_layers": 256,
    "patch_size": 256,
}
"""Sizes that a configuration may ask for: they are allocated before the weights are compared."""
POSITIONS = "decoder.decoder_pos_embed"
STATISTICS = {"_latents_mean": 0.0, "_latents_std": 1.0}
"""Their names, and what stands for them where the file has none."""
_NORMS = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


class RAE(Autoencoder):
    """Encoder and decoder; the encoder, and with it timm, is loaded when an image is first encoded.

    Args:
        config: of diffusers' `AutoencoderRAE`; `encoder_num_attention_heads` where they are not 64 wide.
        tensors: of its file, by diffusers' names, memory-mapped.
        where: what a message calls the file.

    Raises:
        ValueError: the configuration is of another encoder, or its sizes do not fit each other.
        DitError: tensors are missing, unexpected or of another shape.
    """

    is_gaussian = False
    image_channels = 3

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str | Path) -> None:
        super().__init__()
        config = _DEFAULTS | dict(config)
        self.where = where
        if config["encoder_type"] != "dinov2" or config["num_channels"] != 3:
            raise ValueError(f"expected encoder_type dinov2 and 3 channels, found {config['encoder_type']}")
        for key, largest in _LARGEST.items():
            if type(config[key]) is not int or not 1 <= config[key] <= largest:
                raise ValueError(f"{key}: expected a whole number from 1 to {largest}, found {config[key]!r}")
        input_size, encoder_patch = config["encoder_input_size"], config["encoder_patch_size"]
        side, rest = divmod(input_size, encoder_patch)
        if rest or config["decoder_hidden_size"] % 4:
            raise ValueError("expected encoder_input_size in whole patches and decoder_hidden_size a multiple of 4")
        self.num_moments = config["encoder_hidden_size"]
        self.downscale: int = config["patch_size"]
        self.image_size = side * self.downscale
        mean, std = (tuple(config.get(f"encoder_norm_{key}") or usual) for key, usual in _NORMS.items())
        self.preparation = Preparation((input_size, input_size), mean, std, antialias=False)
        self.num_heads: int | None = config.get("encoder_num_attention_heads")
        with torch.device("meta"):
            self.decoder = Decoder(config, side)
        found = dict(tensors)
        for name in ("encoder_mean", "encoder_std"):  # config.json says them too
            found.pop(name, None)
        self.statistics = self._read_statistics(found, config["scaling_factor"], side)
        if POSITIONS not in found:
            found[POSITIONS] = positions(config["decoder_hidden_size"], side)
        self._encoder_tensors = {
            name.removeprefix("encoder."): found.pop(name) for name in list(found) if name.startswith("encoder.")
        }
        expected = {f"decoder.{name}": tensor for name, tensor in self.decoder.state_dict().items()}
        check_tensors(where, expected, found)
        self.load_state_dict({name: tensor.float() for name, tensor in found.items()}, assign=True)
        for key, value in (("pixel_mean", mean), ("pixel_std", std)):
            self.register_buffer(key, torch.tensor(value).view(-1, 1, 1), persistent=False)
        self.encoder: Encoder | None = None

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to z (B, D, S, S)."""
        if self.encoder is None:
            self.encoder = self.load_encoder().to(images.device, images.dtype)
        patches = self.encoder((images + 1) / 2).patches  # (B, T, D)
        side = round(patches.shape[1] ** 0.5)
        return patches.transpose(1, 2).unflatten(2, (side, side))

    def decode(self, z: Tensor) -> Tensor:
        """Decode z (B, D, S, S) to images (B, 3, p S, p S) in [-1, 1], not clamped."""
        pixels = unpatchify(self.decoder(z), self.downscale)
        return 2 * (pixels * self.get_buffer("pixel_std") + self.get_buffer("pixel_mean")) - 1

    def load_encoder(self) -> Encoder:
        """Build the encoder.

        Raises:
            ConfigError: its sizes do not fit each other.
            DitError: its weights are missing, unexpected, of another shape or not finite.
        """
        from dit.encoders.dinov2 import dinov2

        for name, tensor in self._encoder_tensors.items():
            if not tensor.isfinite().all():
                raise DitError(f"{self.where}: expected finite weights, found NaN or infinity in encoder.{name}")
        tensors = {name: tensor.float() for name, tensor in self._encoder_tensors.items()}
        return dinov2(f"{self.where}, encoder", tensors, self.preparation, num_heads=self.num_heads)

    def _read_statistics(self, tensors: dict[str, Tensor], factor: float, side: int) -> tuple[Tensor, Tensor]:
        """Take mean and deviation (D, S, S) out of the tensors; 0 and 1 where there are none."""
        shape, found = (self.num_moments, side, side), []
        for name, usual in STATISTICS.items():
            tensor = tensors.pop(name, torch.tensor([usual])).float()
            if tensor.numel() != 1 and tuple(tensor.squeeze(0).shape) != shape:
                raise DitError(f"{self.where}: expected {name} of {list(shape)}, found {list(tensor.shape)}")
            found.append(tensor.expand(shape) if tensor.numel() == 1 else tensor.view(shape))
        mean, std = found[0], (found[1] + STD_EPS) / factor
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise DitError(
                f"{self.where}: expected finite {' and '.join(STATISTICS)}, deviations above 0, found others"
            )
        return mean, std


class Decoder(nn.Module):
    """Tokens of the encoder to patches of pixels, normalised as the encoder's input.

    Args:
        config: of diffusers' `AutoencoderRAE`.
        side: S, tokens in a row.
    """

    def __init__(self, config: Mapping[str, Any], side: int) -> None:
        super().__init__()
        width, heads = config["decoder_hidden_size"], config["decoder_num_attention_heads"]
        if width % heads:
            raise ValueError(f"expected decoder_num_attention_heads that divide {width}, found {heads}")
        self.side = side
        self.decoder_embed = nn.Linear(config["encoder_hidden_size"], width)
        self.trainable_cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_pos_embed", torch.zeros(1, 1 + side**2, width))
        self.decoder_layers = nn.ModuleList(
            Layer(width, heads, config["decoder_intermediate_size"]) for _ in range(config["decoder_num_hidden_layers"])
        )
        self.decoder_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.decoder_pred = nn.Linear(width, config["patch_size"] ** 2 * config["num_channels"])

    def forward(self, z: Tensor) -> Tensor:
        """Return (B, T, p p 3) for z (B, D, S, S); another grid is brought to S x S first."""
        x = self.decoder_embed(z.flatten(2).transpose(1, 2))  # (B, T, W)
        if z.shape[2:] != (self.side, self.side):
            x = x.transpose(1, 2).unflatten(2, z.shape[2:])
            x = interpolate(x, size=(self.side, self.side), mode="bilinear").flatten(2).transpose(1, 2)
        x = torch.cat([self.trainable_cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.get_buffer("decoder_pos_embed")
        for layer in self.decoder_layers:
            x = layer(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, num_heads: int, mlp_width: int) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attention = Attention(width, num_heads)
        self.layernorm_after = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, mlp_width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(mlp_width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 1 + T, W) for x of that shape."""
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output["dense"](gelu(self.intermediate["dense"](self.layernorm_after(x))))


class Attention(nn.Module):
    """Self-attention over all tokens."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 1 + T, W) for x of that shape."""
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )  # (B, heads, 1 + T, W / heads) each
        return self.to_out[0](scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def positions(width: int, side: int) -> Tensor:
    """Return the decoder's positions, whole numbers on any grid and nothing for the class token: (1, 1 + T, W)."""
    return torch.cat([torch.zeros(1, width), sincos_2d(width, (side, side))])[None]


def unpatchify(patches: Tensor, size: int) -> Tensor:
    """Put patches (B, T, p p 3), each in the order row, column, colour, together: (B, 3, p S, p S)."""
    side = round(patches.shape[1] ** 0.5)
    pixels = patches.unflatten(-1, (size, size, 3)).unflatten(1, (side, side))  # (B, S, S, p, p, 3)
    return pixels.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
