"""Adaptive layer normalisation: a shift, a scale and a gate from the conditioning vector.

mod(x) = x (1 + scale) + shift, with (shift, scale, ...) = Linear(SiLU(c)).

Source: Perez et al., "FiLM", AAAI 2018; adaLN-Zero in the DiT paper, section 3.2.
"""

import torch
from torch import Tensor, nn


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x (B, T, D) scaled and shifted by shift and scale: (B, D) per sample, or (B, T, D) per token."""
    shift, scale = _per_token(shift), _per_token(scale)
    if _one_pass_serves(x, shift):
        return torch.addcmul(shift, x, 1 + scale)
    return x * (1 + scale) + shift


def add_gated(x: Tensor, gate: Tensor, update: Tensor) -> Tensor:
    """Return x + gate * update for x and update (B, T, D) and a gate, (B, D) per sample or (B, T, D) per token."""
    gate = _per_token(gate)
    if _one_pass_serves(x, gate):
        return torch.addcmul(x, gate, update)
    return x + gate * update


def _per_token(coefficients: Tensor) -> Tensor:
    return coefficients if coefficients.dim() == 3 else coefficients[:, None]


def _one_pass_serves(x: Tensor, coefficients: Tensor) -> bool:
    # With gradients the separate operations keep less; a compiler fuses them itself.
    return not torch.is_grad_enabled() and x.dtype == coefficients.dtype


def modulation(hidden_size: int, num_chunks: int) -> nn.Sequential:
    """Return SiLU and a Linear from (B, D) to (B, num_chunks * D); published keys hold the Linear's index, 1."""
    return nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, num_chunks * hidden_size))


def layer_norm(hidden_size: int) -> nn.LayerNorm:
    """Return the normalisation that modulation follows: no weights of its own, eps 1e-6."""
    return nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
