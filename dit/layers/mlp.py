"""The token-wise two-layer network of a block."""

from torch import Tensor, nn

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
