"""Fixed two-dimensional sin-cos position embedding.

Per axis with positions m and D/2 entries: [sin(m w_i) | cos(m w_i)], w_i = 10000^(-i/(D/4)), i = 0..D/4-1.
The first half of a token's embedding encodes its column, the second its row.
"""

import torch
from torch import Tensor


def sincos_2d(hidden_size: int, grid_size: tuple[int, int]) -> Tensor:
    """Return the embedding of a grid of (rows, columns) patches: (rows * columns, hidden_size) float32.

    Positions are integers and are not rescaled with the grid. Computed in float64.

    Source: Vaswani et al., "Attention is all you need", section 3.5, on two axes as in ViT-MAE.
    """
    assert hidden_size % 4 == 0
    rows, columns = grid_size
    of_column = _sincos_1d(hidden_size // 2, torch.arange(columns, dtype=torch.float64))  # (columns, D/2)
    of_row = _sincos_1d(hidden_size // 2, torch.arange(rows, dtype=torch.float64))  # (rows, D/2)
    of_column = of_column.expand(rows, -1, -1)  # (rows, columns, D/2)
    of_row = of_row[:, None].expand(-1, columns, -1)  # (rows, columns, D/2)
    return torch.cat([of_column, of_row], dim=-1).flatten(0, 1).float()


def _sincos_1d(size: int, positions: Tensor) -> Tensor:
    frequencies = 10000.0 ** (-torch.arange(size // 2, dtype=torch.float64) / (size / 2))  # (size/2,)
    angles = positions[:, None] * frequencies  # (M, size/2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)  # (M, size)
