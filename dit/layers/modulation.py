"""Adaptive layer normalisation: a shift, a scale and a gate from the conditioning vector.

mod(x) = x (1 + scale) + shift, with (shift, scale, ...) = Linear(SiLU(c)).

Source: Perez et al., "FiLM", AAAI 2018; adaLN-Zero in the DiT paper, section 3.2.
"""

from torch import Tensor, nn


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x (B, T, D) scaled and shifted per sample by shift and scale, each (B, D)."""
    return x * (1 + scale[:, None]) + shift[:, None]


def modulation(hidden_size: int, num_chunks: int) -> nn.Sequential:
    """Return SiLU and a Linear from (B, D) to (B, num_chunks * D); published keys hold the Linear's index, 1."""
    return nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, num_chunks * hidden_size))


def layer_norm(hidden_size: int) -> nn.LayerNorm:
    """Return the normalisation that modulation follows: no weights of its own, eps 1e-6."""
    return nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
