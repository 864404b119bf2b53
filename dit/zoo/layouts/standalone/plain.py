"""Plain forms of what this package has in faster or stricter ones, for files that are to work without it.

B batch, T tokens, D width, d head width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


@dataclass(frozen=True, kw_only=True)
class Section:
    """A group of settings."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings that are among these values, which may hold more."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """Return the same with other values."""
        return replace(self, **update)


def linear(x: Tensor, layer: nn.Module) -> Tensor:
    """Return layer(x) for x (..., D)."""
    return layer(x)


def linear_gelu(x: Tensor, layer: nn.Module) -> Tensor:
    """Return GELU, in its tanh approximation, of layer(x) for x (..., D)."""
    return gelu(layer(x), approximate="tanh")


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T d^-0.5 + bias) v for q, k, v (B, heads, T, d) and a bias (..., heads, T, T)."""
    return scaled_dot_product_attention(q, k, v, attn_mask=bias)
