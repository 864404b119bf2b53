"""Positions of tokens: a fixed sin-cos embedding that is added, and rotations of queries and keys.

Sin-cos, per axis with positions m and D/2 entries: [sin(m w_i) | cos(m w_i)], w_i = 10000^(-i/(D/4)), i = 0..D/4-1.
The first half of a token's embedding encodes its column, the second its row.

Rotary, with neighbouring entries (a, b) of a head as a pair and an angle for each pair of each token:
(a, b) -> (a cos - b sin, b cos + a sin), so that products of queries and keys depend on differences of positions.

d head width.
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


def rotary_1d(head_size: int, num_tokens: int, *, device: torch.device | None = None) -> Tensor:
    """Return the turns of tokens in a row, position m by angles m 10000^(-2j/d): (2, T, d/2) cosines and sines.

    Source: Su et al., "RoFormer", 2021, section 3.2.2.
    """
    frequencies = 10000.0 ** (-torch.arange(0, head_size, 2, dtype=torch.float64, device=device) / head_size)  # (d/2,)
    positions = torch.arange(num_tokens, dtype=torch.float64, device=device)
    return _turns(positions[:, None] * frequencies)


def rotary_2d(head_size: int, grid_size: tuple[int, int], *, device: torch.device | None = None) -> Tensor:
    """Return the turns of a grid of tokens: (2, rows * columns, d/2) cosines and sines, float32.

    The first half of a head turns with the row, the second with the column; positions are integers and are not
    rescaled with the grid.

    Args:
        head_size: head width d, a multiple of 4.
        grid_size: rows and columns.
        device: of the result.

    Source: Su et al., "RoFormer", 2021, on two axes as in Fang et al., "EVA-02", 2023.
    """
    of_row, of_column = _grid_angles(head_size, *(torch.arange(size, device=device) for size in grid_size))
    return _turns(torch.cat([of_row, of_column], dim=-1))


def rotary_2d_scaled(
    head_size: int, grid_size: tuple[int, int], *, extent: float = 16.0, device: torch.device | None = None
) -> Tensor:
    """Return the turns of a grid whose axes both run from 0 to `extent`: (2, rows * columns, d/2), float32.

    Pairs alternate: one turns with the column, the next with the row.

    Args:
        head_size: head width d, a multiple of 4.
        grid_size: rows and columns.
        extent: position of the last row and of the last column.
        device: of the result.

    Source: Wang et al., "DDT: Decoupled Diffusion Transformer", 2025 (as its published weights have it).
    """
    axes = (torch.linspace(0, extent, size, device=device, dtype=torch.float64) for size in grid_size)
    of_row, of_column = _grid_angles(head_size, *axes)
    return _turns(torch.stack([of_column, of_row], dim=-1).flatten(1))


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Return x (B, heads, T, d), each pair of neighbouring entries turned by `rotary` (2, T, d/2); of x's type."""
    cos, sin = rotary
    pairs = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2))  # (B, heads, T, d/2, 2)
    if torch.compiler.is_compiling():  # it has no complex numbers, and makes one pass of these operations
        a, b = pairs.unbind(-1)
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return turned.flatten(-2).to(x.dtype)


def unturned_before(rotary: Tensor, num_tokens: int) -> Tensor:
    """Return the turns (2, num_tokens + T, d/2) of a sequence that begins with tokens that are not turned."""
    cos = rotary.new_ones(num_tokens, rotary.shape[2])
    still = torch.stack([cos, torch.zeros_like(cos)])
    return torch.cat([still, rotary], dim=1)


def _grid_angles(head_size: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles by row and by column of each token of a grid, each (rows * columns, d/4) float64."""
    frequencies = 10000.0 ** (-torch.arange(0, head_size, 4, dtype=torch.float64, device=rows.device) / head_size)
    of_row = (rows.double()[:, None] * frequencies).repeat_interleave(len(columns), dim=0)
    of_column = (columns.double()[:, None] * frequencies).repeat(len(rows), 1)
    return of_row, of_column


def _turns(angles: Tensor) -> Tensor:
    return torch.stack([angles.cos(), angles.sin()]).float()
