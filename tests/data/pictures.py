"""Image files for the tests of data."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(image: Image.Image, file_format: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def noise(height: int, width: int, *, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8))


def write_folder(folder: Path, classes: dict[str, int], *, size: int = 20, suffix: str = ".jpg") -> Path:
    """Write so many images of each class, every one different."""
    for number, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise(size, size + 4, seed=1000 * number + i).save(folder / name / f"{i:03}{suffix}")
    return folder
