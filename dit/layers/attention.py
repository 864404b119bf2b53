"""Multi-head self-attention, with normalised and rotated queries and keys where a family has them.

attention(x) = softmax(q k^T d^-0.5) v, with q and k normalised per head and then rotated by their positions.

d head width, S = T tokens.

Source: Vaswani et al., "Attention is all you need", 2017, equation 1; Henry et al., "Query-key normalization for
transformers", 2020.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from dit.layers.linear import linear
from dit.layers.position import rotate

MAX_EXPLICIT_TOKENS = 512
"""Longest sequence whose attention matrix is written out in training: beyond, its memory grows out of proportion."""


class Attention(nn.Module):
    """Self-attention over tokens; the projection's rows are ordered q | k | v, and within each by head.

    Args:
        hidden_size: width D of the tokens.
        num_heads: heads; divides D.
        qkv_bias: whether queries, keys and values have a bias.
        qk_norm: makes the normalisation of a head's queries, and of its keys, from the head width d; None: none.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        qk_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.q_norm = nn.Identity() if qk_norm is None else qk_norm(hidden_size // num_heads)
        self.k_norm = nn.Identity() if qk_norm is None else qk_norm(hidden_size // num_heads)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, rotary: Tensor | None = None) -> Tensor:
        """Return (B, T, D) for x (B, T, D).

        Args:
            x: tokens.
            rotary: (2, T, d/2) cosines and sines by which queries and keys are turned.
        """
        qkv = linear(x, self.qkv).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, heads, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, d)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        attended = attend(q, k, v)  # (B, heads, T, d)
        return linear(attended.transpose(1, 2).flatten(2), self.proj)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T d^-0.5 + bias) v for q, k, v (B, heads, T, d), by the path that is fastest here.

    Args:
        q: queries.
        k: keys.
        v: values.
        bias: (heads, T, T) or (B, heads, T, T), added to the logits.
    """
    if bias is None and explicit_is_faster(q):
        return explicit_attention(q, k, v)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias)


def explicit_is_faster(q: Tensor) -> bool:
    """Tell whether products written out beat the flash kernel for q (B, heads, T, d).

    They do in training on a CPU in bfloat16: the flash kernel's backward pass takes 1.6 times as long at 256 tokens.
    """
    return (
        q.device.type == "cpu"
        and q.dtype == torch.bfloat16
        and q.shape[2] <= MAX_EXPLICIT_TOKENS
        and torch.is_grad_enabled()
        and q.requires_grad
    )


def explicit_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T d^-0.5) v for q, k, v (B, heads, T, d), all products in their own type."""
    # Autocast would take the softmax to float32 and write four times the bytes; its kernel sums in float32 anyway.
    with torch.autocast(q.device.type, enabled=False):
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, heads, T, S)
        return logits.softmax(dim=-1) @ v
