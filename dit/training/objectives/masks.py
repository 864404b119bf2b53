"""Which tokens a network sees that is trained on some of them.

B batch, T tokens of a grid, T' kept ones, H x W latent of patches of p x p.
"""

import torch
from torch import Tensor

from dit.models.config import num_kept
from dit.models.family import Arguments
from dit.models.patches import PatchArguments
from dit.rng import Purpose, StepDraws


def patches_of(arguments: Arguments) -> PatchArguments:
    """Return the arguments of a network over patches, as every network is that can be trained on some of them."""
    assert isinstance(arguments, PatchArguments)
    return arguments


def draw_keep(
    draws: StepDraws, arguments: PatchArguments, ratio: float, device: torch.device, purpose: Purpose = Purpose.MASK
) -> Tensor:
    """Draw the tokens that are kept, in a random order.

    Args:
        draws: of the rows of the batch.
        arguments: of the network.
        ratio: share of the tokens that is left out; one at least is kept.
        device: where they are needed.
        purpose: what they are drawn for.

    Returns:
        (B, T') int64.
    """
    rows, columns = arguments.grid_size
    num_tokens = rows * columns
    order = draws.normal(purpose, (num_tokens,), device).argsort(dim=1)
    return order[:, : num_kept(num_tokens, ratio)]


def is_kept(keep: Tensor, arguments: PatchArguments) -> Tensor:
    """Return which tokens are in keep (B, T'): (B, T) float32, 1 or 0."""
    rows, columns = arguments.grid_size
    return torch.zeros(len(keep), rows * columns, device=keep.device).scatter(1, keep, 1.0)


def pixels_of(tokens: Tensor, arguments: PatchArguments) -> Tensor:
    """Spread one number per token (B, T) over the latent: (B, 1, H, W)."""
    grid = tokens.unflatten(1, (1, *arguments.grid_size))
    return grid.repeat_interleave(arguments.patch_size, 2).repeat_interleave(arguments.patch_size, 3)
