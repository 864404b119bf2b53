"""Decoding in tiles that overlap, whose memory is a tile's: image = sum_k w_k decoder(z_k) / sum_k w_k.

The weight w of a pixel falls towards the edges of its tile, so that one tile fades into the next. A decoder that looks
at all positions, as attention and group norms do, sees those of a tile alone: pictures differ from those of one piece.

B images, C latent channels, h x w positions.
"""

from collections.abc import Callable

import torch
from torch import Tensor

OVERLAP = 4
"""A tile shares one part of so many of its side with the next."""


def decode_in_tiles(decode: Callable[[Tensor], Tensor], z: Tensor, *, tile: int, downscale: int) -> Tensor:
    """Decode z (B, C, h, w) to images (B, channels, H, W) float32.

    Args:
        decode: of z of any size to images.
        z: what is decoded.
        tile: side of a tile, in positions.
        downscale: pixels per position.
    """
    height, width = z.shape[-2:]
    total: Tensor | None = None
    shares = torch.zeros(height * downscale, width * downscale, device=z.device)
    for row in _starts(height, tile):
        for column in _starts(width, tile):
            part = decode(z[..., row : row + tile, column : column + tile]).float()
            down, across = (_fade(size, tile * downscale // OVERLAP, z.device) for size in part.shape[-2:])
            weight = down[:, None] * across
            if total is None:
                total = part.new_zeros(*part.shape[:2], *shares.shape)
            place = (
                slice(row * downscale, row * downscale + len(down)),
                slice(column * downscale, column * downscale + len(across)),
            )
            total[..., *place] += weight * part
            shares[place] += weight
    assert total is not None, "an image has a position"
    return total / shares


def _starts(size: int, tile: int) -> list[int]:
    """Return where tiles begin; the last one ends where the image does."""
    stride = tile - tile // OVERLAP
    return [*range(0, max(0, size - tile), stride), max(0, size - tile)]


def _fade(size: int, length: int, device: torch.device) -> Tensor:
    """Return (size,): 1, but rising over `length` pixels at one end and falling at the other, and never 0."""
    places = torch.arange(size, device=device) + 0.5
    return (torch.minimum(places, size - places) / max(1, length)).clamp(max=1)
