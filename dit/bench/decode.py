"""`decode`: latents to 256-pixel images by a decoder of the published autoencoder's shape, random weights."""

import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dit.bench.harness import Row, Run, race
from dit.bench.peers import kl_autoencoder
from dit.bench.settings import Settings
from dit.latents.codec import load_codec

LATENT_SIZE = 32
WIDTHS = (128, 256, 512, 512)
"""Of `stabilityai/sd-vae-ft-ema`."""


def run(settings: Settings) -> Iterator[Row]:
    """Measure a batch of images, one by default."""
    batch = settings.batch or 1
    settings.say(f"decode {8 * LATENT_SIZE} pixels, batch {batch}")
    latents = torch.randn(batch, 4, LATENT_SIZE, LATENT_SIZE, device=settings.device)

    def ours() -> Run:
        with tempfile.TemporaryDirectory() as folder:
            kl_autoencoder(WIDTHS, layers=2).save_pretrained(folder)
            codec = load_codec(folder, device=settings.device)
        return lambda: codec.decode(latents)

    def theirs(dtype: torch.dtype) -> Run:
        autoencoder = nn.Module.to(kl_autoencoder(WIDTHS, layers=2), settings.device, dtype)
        return lambda: _decode_as_is(autoencoder, latents.to(dtype))

    def compiled() -> Run:
        autoencoder = kl_autoencoder(WIDTHS, layers=2)
        nn.Module.to(autoencoder, settings.device, torch.bfloat16)
        autoencoder.to(memory_format=torch.channels_last)
        autoencoder.get_submodule("decoder").compile()
        return lambda: _decode_as_is(autoencoder, latents.to(torch.bfloat16))

    contenders = {"dit": ours, "diffusers float32": lambda: theirs(torch.float32)}
    contenders |= settings.in_bf16({"diffusers bf16": lambda: theirs(torch.bfloat16)})
    if settings.device.type == "cuda":
        contenders["diffusers bf16 compiled"] = compiled
    yield from race("decode", f"{8 * LATENT_SIZE} px batch {batch}", contenders, settings)


@torch.no_grad()
def _decode_as_is(autoencoder: Any, latents: Tensor) -> Tensor:
    """Decode as diffusers' pipelines do, to uint8 images."""
    images = autoencoder.decode(latents).sample.float()
    return (127.5 * images + 128).clamp(0, 255).to(torch.uint8)
