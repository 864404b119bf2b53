"""Coefficients of a batch: functions of its times, one number a sample, computed on the host in float64.

What a loss takes of them goes to a GPU in one table, before the network is called, and the host waits for nothing.

B samples.
"""

import torch
from torch import Tensor

from dit.device import to_device


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Shape per-sample values (B,) or () so that they multiply `like` (B, ...), in its dtype and on its device."""
    if not values.dim():  # a number that a GPU's kernels take from the host
        return values.to(like.dtype)
    return to_device(values, like.device, like.dtype).reshape(-1, *[1] * (like.dim() - 1))


def mix(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Return a x + b y for x and y (B, ...) and per-sample values a and b, (B,) or ()."""
    return per_sample(a, x) * x + per_sample(b, x) * y


def on_device(values: dict[str, Tensor], like: Tensor) -> dict[str, Tensor]:
    """Send numbers of samples, each (B,), in one copy to where `like` is: name -> (B,), in float32 or better."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    table = torch.stack([value.to(dtype) for value in values.values()])  # (K, B)
    return dict(zip(values, to_device(table, like.device).unbind(), strict=True))
