"""What a user would take instead: a plain network of the original's structure, and diffusers.

B batch, C latent channels, T tokens, D width.
"""

from dataclasses import replace
from typing import Any

import torch
from timm.layers import GELUTanh
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Attention  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from dit.bench.products import operations, products
from dit.bench.settings import Settings
from dit.layers.precision import bf16_pays
from dit.models import create_model
from dit.models.dit.arguments import DiTArguments
from dit.models.dit.network import DiT
from dit.models.network import cast_blocks, narrowest_width


def network(name: str, settings: Settings) -> Any:
    """Return one of our networks as it is created, with random weights."""
    with settings.device:
        return create_model(name, **settings.arguments)


def fast_network(name: str, settings: Settings) -> Any:
    """Return it at the precision that sampling chooses by itself, as `load_pipeline` does."""
    model = network(name, settings).eval().requires_grad_(False)
    return cast_blocks(model, torch.bfloat16) if bf16_pays(settings.device, narrowest_width(model)) else model


def inputs(model: Any, batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents (B, C, H, W), times (B,) and labels (B,) for one of our networks."""
    x = torch.randn(batch, model.arguments.in_channels, *model.arguments.input_size, device=device)
    y = torch.arange(batch, device=device) % max(1, model.arguments.num_classes)
    return x, torch.full((batch,), 500.0, device=device), y


def forward_operations(name: str, batch: int, settings: Settings) -> int:
    """Return the operations of the products of one forward pass of one of our networks."""
    empty = network(name, replace(settings, device=torch.device("meta"))).eval()
    x, t, y = inputs(empty, batch, torch.device("meta"))
    return operations(products(empty, (x, t, y), {name: torch.zeros_like(t) for name in empty.condition_names}))


class PlainBlock(nn.Module):
    """A block of the original's structure, of timm's modules as there; its parameters are named as ours."""

    def __init__(self, width: int, num_heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, num_heads, qkv_bias=True)
        self.mlp = Mlp(width, mlp_width, act_layer=GELUTanh)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Return tokens (B, T, D) for tokens x and conditioning c (B, D)."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(c)[:, None].chunk(6, dim=2)
        x = x + gate_1 * self.attn(self.norm1(x) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.mlp(self.norm2(x) * (1 + scale_2) + shift_2)


class PlainDiT(DiT):
    """The whole network, with the inputs' embeddings and the output layer of ours, which take no time to speak of."""

    def __init__(self, arguments: DiTArguments) -> None:
        super().__init__(arguments)
        sizes = arguments.hidden_size, arguments.num_heads, arguments.mlp_width
        self.blocks = nn.ModuleList(PlainBlock(*sizes) for _ in range(arguments.depth))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Return (B, 2C, H, W) for x_t (B, C, H, W), t (B,) and y (B,)."""
        tokens, c = self.x_embedder(x_t) + self.pos_embed, self.t_embedder(t) + self.y_embedder(y)
        for block in self.blocks:
            tokens = block(tokens, c)
        return self.leave(self.final_layer.adaLN_modulation(c), tokens)


def diffusers_dit(arguments: DiTArguments, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return diffusers' network of the same architecture, with random weights."""
    from diffusers import DiTTransformer2DModel  # pyright: ignore[reportPrivateImportUsage]

    channels = arguments.in_channels
    model: Any = DiTTransformer2DModel(
        num_attention_heads=arguments.num_heads,
        attention_head_dim=arguments.hidden_size // arguments.num_heads,
        in_channels=channels,
        out_channels=2 * channels if arguments.learn_sigma else channels,
        num_layers=arguments.depth,
        sample_size=arguments.input_size[0],
        patch_size=arguments.patch_size,
        num_embeds_ada_norm=arguments.num_classes,
    )
    return nn.Module.to(model.eval().requires_grad_(False), dtype)  # diffusers' own `to` warns without a cause


def kl_autoencoder(widths: tuple[int, ...], layers: int) -> Any:
    """Return diffusers' KL autoencoder of these widths, with random weights."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * len(widths),  # pyright: ignore[reportArgumentType]
        block_out_channels=widths,  # pyright: ignore[reportArgumentType]
        layers_per_block=layers,
        latent_channels=4,
    )
    return autoencoder.eval().requires_grad_(False)
