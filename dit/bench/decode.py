"""`decode`: latents to 256-pixel images by a decoder of the published autoencoder's shape, random weights."""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn

from dit.bench.harness import Row, Run, race
from dit.bench.limits import module_seconds
from dit.bench.settings import Settings
from dit.latents.codec import load_codec


def run(settings: Settings) -> list[Row]:
    """Measure one image and four at a time."""
    in_float32, in_bf16 = sd_vae(), nn.Module.to(sd_vae(), torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        in_float32.save_pretrained(folder)
        ours = load_codec(folder)
    size = 16 if settings.quick else 32
    limit: float | None = None
    rows = []
    for batch, rounds in ((1, settings.rounds), (4, max(1, settings.rounds // 2))):
        settings.say(f"decode {8 * size} pixels, batch {batch}")
        latents = torch.randn(batch, 4, size, size)
        contenders: dict[str, Run] = {
            "dit": lambda latents=latents: ours.decode(latents),
            "diffusers float32": lambda latents=latents: decode_as_is(in_float32, latents),
            "diffusers bf16": lambda latents=latents: decode_as_is(in_bf16, latents.bfloat16()),
        }
        result = race(contenders, rounds=rounds, warmups=0, say=settings.say)
        if limit is None:
            limit = module_seconds(in_float32.decoder, latents[:1], torch.bfloat16)
        rows += result.rows("decode", f"{8 * size} px batch {batch}", ours="dit", limit=batch * limit)
        if settings.quick:
            break
    return rows


@torch.no_grad()
def decode_as_is(vae: Any, latents: Tensor) -> Tensor:
    """Decode as diffusers' pipelines do, to uint8 images."""
    images = vae.decode(latents).sample.float()
    return (127.5 * images + 128).clamp(0, 255).to(torch.uint8)


def sd_vae() -> Any:
    """Return an autoencoder of the shape of `stabilityai/sd-vae-ft-ema`."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    return kl_vae(AutoencoderKL, (128, 256, 512, 512), layers=2)


def small_vae() -> Any:
    """Return one of the same stride that takes next to no time."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    return kl_vae(AutoencoderKL, (32, 32, 32, 32), layers=1)


def kl_vae(autoencoder_class: Any, widths: tuple[int, ...], layers: int) -> Any:
    """Return a KL autoencoder of these widths."""
    vae = autoencoder_class(
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        block_out_channels=widths,
        layers_per_block=layers,
        latent_channels=4,
    )
    return vae.eval().requires_grad_(False)
