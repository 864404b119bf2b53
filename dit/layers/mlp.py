"""The token-wise networks of a block: with GELU, and with a gate.

SwiGLU(x) = W_3 (silu(W_1 x) * W_2 x)

Source: Shazeer, "GLU variants improve transformer", 2020, equation 6.
"""

from torch import Tensor, nn
from torch.nn.functional import silu

from dit.layers.linear import linear, linear_gelu


class Mlp(nn.Module):
    """Linear, GELU in its tanh approximation, Linear."""

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, mlp_size)
        self.fc2 = nn.Linear(mlp_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        return linear(linear_gelu(x, self.fc1), self.fc2)


class SwiGlu(nn.Module):
    """Gate and value from one linear layer, then a linear layer back, all with biases.

    Args:
        hidden_size: width D of the tokens.
        mlp_size: width of gate and value, each.
    """

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(hidden_size, 2 * mlp_size)
        self.w3 = nn.Linear(mlp_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        gate, value = linear(x, self.w12).chunk(2, dim=-1)
        return linear(silu(gate) * value, self.w3)


class SeparateSwiGlu(nn.Module):
    """Gate `w1` and value `w3` from a linear layer each, then `w2` back, all without biases.

    Args:
        hidden_size: width D of the tokens.
        mlp_size: width of gate and value, each.
    """

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(hidden_size, mlp_size, bias=False)
        self.w3 = nn.Linear(hidden_size, mlp_size, bias=False)
        self.w2 = nn.Linear(mlp_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        return linear(silu(linear(x, self.w1)) * linear(x, self.w3), self.w2)
