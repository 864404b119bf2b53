"""Weights for other classes, sizes and channels: the parts that networks with patches and a label table share.

p patch, C latent channels, D width, K classes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from dit.errors import ConfigError
from dit.models.family import Arguments


def fit_labels(fresh: Tensor, table: Tensor, rows: Mapping[int, int]) -> Tensor:
    """Return a new label table (K', D): row by row what `rows` takes from the old one (K, D), the rest fresh."""
    fitted = fresh.clone()
    if rows:
        fitted[list(rows)] = table[list(rows.values())].to(fresh.dtype)
    return fitted


def expect_size(old: Arguments, new: Arguments) -> None:
    """Refuse another size, for networks whose positions are learned.

    Raises:
        ConfigError: naming both sizes.
    """
    if old.input_size != new.input_size:
        raise ConfigError(
            f"model.input_size: expected {list(old.input_size)}, for the positions of this family are learned and "
            f"fit no other size, found {list(new.input_size)}"
        )


def channel_ratio(old: Arguments, new: Arguments) -> int:
    """Return how often the old channels are repeated.

    Raises:
        ConfigError: the new number is no multiple of the old.
    """
    times, rest = divmod(new.in_channels, old.in_channels)
    if rest or not times:
        raise ConfigError(
            f"model.in_channels: the weights are for {old.in_channels} channels, asked for {new.in_channels}; "
            "only a multiple can be made by repeating them, other latents need another model"
        )
    return times


def fit_patches(weight: Tensor, times: int) -> Tensor:
    """Return a patch projection (D, times * C, p, p) that sees repeated channels as (D, C, p, p) saw each of them."""
    return weight.repeat(1, times, 1, 1) / times  # the sum over repeated channels grows by their number


def fit_outputs(fresh: Tensor, rows: Tensor, times: int, channels: int, *, old_parts: int, new_parts: int) -> Tensor:
    """Return output rows (p * p * parts * times * C, ...), ordered by patch position, part and channel.

    Args:
        fresh: freshly drawn rows, which stay where the old ones have no such part.
        rows: old rows (p * p * parts * C, ...).
        times: how often the channels are repeated.
        channels: C, the old number.
        old_parts: 2 where the old output has a half for the variance, else 1.
        new_parts: of the new output.
    """
    halves = torch.cat([rows.unflatten(0, (-1, old_parts, channels))] * times, dim=2)  # (p * p, parts, times * C, ...)
    fitted = fresh.unflatten(0, (-1, new_parts, times * channels)).clone()
    shared = min(old_parts, new_parts)
    fitted[:, :shared] = halves[:, :shared]
    return fitted.flatten(0, 2)
