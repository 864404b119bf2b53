"""Many small images as one picture: rows, thin gaps, and pixels that stay crisp when enlarged."""

import numpy as np
from PIL import Image
from torch import Tensor

from dit.errors import DitError

SMALLEST_TILE = 64  # pixels; smaller images are enlarged by a whole factor until a tile is at least this large
BACKGROUND = 128


def image_grid(images: Tensor | np.ndarray, *, columns: int, scale: int | None = None, gap: int = 2) -> Image.Image:
    """Lay images out in rows, the first row first.

    Args:
        images: uint8 (N, C, H, W) with C = 1 (grey) or 3 (RGB), N at least 1; for a row per class, sort them by class.
        columns: images per row, at least 1; the last row is filled up with background.
        scale: whole factor by which each image is enlarged without smoothing; None: 1 for images of at least 64
            pixels, more for smaller ones.
        gap: pixels between images.

    Returns:
        A picture of mode L or RGB.

    Raises:
        DitError: images are not uint8 (N, 1 or 3, H, W).
    """
    tiles = np.asarray(images.cpu() if isinstance(images, Tensor) else images)
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[1] not in (1, 3) or 0 in tiles.shape:
        raise DitError(f"images: expected uint8 (N, 1 or 3, H, W), found {tiles.dtype} {tiles.shape}")
    num, channels, height, width = tiles.shape
    factor = scale or max(1, -(-SMALLEST_TILE // min(height, width)))
    tiles = tiles.repeat(factor, axis=2).repeat(factor, axis=3).transpose(0, 2, 3, 1)  # (N, sH, sW, C)
    height, width = tiles.shape[1:3]
    columns = min(columns, num)
    rows = -(-num // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    canvas = np.full(shape, BACKGROUND, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = tile
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)
