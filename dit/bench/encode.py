"""`encode`: JPEG files to a finished cache of latents, against the bare autoencoder on tensors that are ready.

The ratio is the share of the autoencoder's own speed that is left once images are read, by two worker processes, and
latents written. Random weights of the published autoencoder's shape.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dit.bench.harness import Row, Run, race
from dit.bench.peers import kl_autoencoder
from dit.bench.settings import Settings
from dit.data.config import DataConfig
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from dit.latents.encode import encode_dataset

IMAGE_SIZE, NUM_IMAGES, NUM_WORKERS = 64, 64, 2
WIDTHS = (128, 256, 512, 512)
"""Of `stabilityai/sd-vae-ft-ema`."""


def run(settings: Settings) -> Iterator[Row]:
    """Measure a folder of small files, in batches of eight by default."""
    batch = settings.batch or 8
    settings.say(f"encode {NUM_IMAGES} images of {IMAGE_SIZE} pixels, batch {batch}, {NUM_WORKERS} workers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kl_autoencoder(WIDTHS, layers=2).save_pretrained(folder / "vae")
        _write_images(folder / "images" / "noise")
        codec = load_codec(str(folder / "vae"), settings.device)
        data = DataConfig(source=str(folder / "images"), image_size=IMAGE_SIZE, val_fraction=0, num_workers=NUM_WORKERS)
        latents = LatentsConfig(cache=str(folder / "cache"), batch_size=batch)
        ready = torch.rand(NUM_IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE, device=settings.device).mul_(2).sub_(1)

        def ours() -> Run:
            def encode() -> None:
                shutil.rmtree(folder / "cache", ignore_errors=True)
                encode_dataset(data, latents, codec)

            return encode

        @torch.no_grad()
        def bare() -> None:
            for images in ready.split(batch):
                codec.autoencoder.encode(images.contiguous(memory_format=torch.channels_last))

        contenders = {"dit": ours, "autoencoder alone": lambda: bare}
        yield from race("encode", f"{NUM_IMAGES} images of {IMAGE_SIZE} px, batch {batch}", contenders, settings)


def _write_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.uint8)
    for number in range(NUM_IMAGES):
        Image.fromarray(pixels[number]).save(folder / f"{number}.jpg")
