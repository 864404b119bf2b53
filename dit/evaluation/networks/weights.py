"""Which weights a network has, however they were stored."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def tensors_sha256(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
