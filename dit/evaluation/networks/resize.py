"""From images to the size that a network takes, in the ways that published figures were made; FID differs between them.

Shapes: B images of H x W, S pixels a side. All take uint8 (B, 3, H, W) and give float32 (B, 3, S, S) in 0..255.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def tensorflow_bilinear(images: Tensor, size: int) -> Tensor:
    """TensorFlow 1's ResizeBilinear: source pixel i * in / out, without half-pixel shift and antialiasing.

    Source: tensorflow/core/kernels/image/resize_bilinear_op.cc, `align_corners` and `half_pixel_centers` off.
    """
    values = images.float()
    low, high, weight = _corners(images.shape[2], size, images.device)
    top, bottom = values[:, :, low], values[:, :, high]  # (B, 3, S, W)
    left, right, across = _corners(images.shape[3], size, images.device)
    top = top[..., left] + (top[..., right] - top[..., left]) * across  # (B, 3, S, S)
    bottom = bottom[..., left] + (bottom[..., right] - bottom[..., left]) * across
    return top + (bottom - top) * weight[:, None]


def by_the_network(images: Tensor, size: int | None) -> Tensor:
    """Images as they are, for a network that resizes them itself."""
    return images.float()


def torch_bicubic(images: Tensor, size: int) -> Tensor:
    """PyTorch's bicubic with antialiasing, neither rounded nor kept within 0..255: EDM2's for DINOv2."""
    if images.shape[2:] == (size, size):
        return images.float()
    return functional.interpolate(images.float(), size=(size, size), mode="bicubic", antialias=True)


def pillow_bicubic(images: Tensor, size: int) -> Tensor:
    """Pillow's bicubic on whole images, whose result has 8 bits."""
    return _by_pillow(images, lambda picture: Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def pillow_bicubic_float(images: Tensor, size: int) -> Tensor:
    """Pillow's bicubic on each channel in floating point, kept within 0..255: clean-fid's."""

    def resize(picture: np.ndarray) -> np.ndarray:
        channels = [Image.fromarray(channel.astype(np.float32)) for channel in picture.transpose(2, 0, 1)]
        resized = [np.asarray(channel.resize((size, size), Image.Resampling.BICUBIC)) for channel in channels]
        return np.stack(resized, axis=2).clip(0, 255)

    return _by_pillow(images, resize)


def _corners(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each of `size` pixels the two of `length` that it lies between, and its distance from the first."""
    place = torch.arange(size, dtype=torch.float32, device=device) * torch.tensor(length / size, dtype=torch.float32)
    low = place.long()
    return low, (low + 1).clamp(max=length - 1), place - low


def _by_pillow(images: Tensor, resize: Callable[[np.ndarray], Any]) -> Tensor:
    pictures = images.permute(0, 2, 3, 1).cpu().numpy()
    found = np.stack([np.array(resize(picture), dtype=np.float32) for picture in pictures])  # (B, S, S, 3)
    return torch.from_numpy(found).permute(0, 3, 1, 2).contiguous().to(images.device)
