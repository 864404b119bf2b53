"""Heads: small networks between tokens and what they are compared with, trained along and never exported."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn


def mlp(*widths: int) -> nn.Sequential:
    """Return linear layers between these widths with SiLU in between, drawn as the blocks' are (Xavier, no bias)."""
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), nn.SiLU()]
    for layer in layers[::2]:
        assert isinstance(layer, nn.Linear)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def tokens_shape(network: Any, block: int) -> tuple[int, int]:
    """Return how many tokens a network has after this many blocks, from 1, and their width: (T, D)."""
    device = next(network.parameters()).device
    x_t = torch.zeros(1, network.arguments.in_channels, *network.arguments.input_size, device=device)
    label = torch.zeros(1, dtype=torch.long, device=device)
    _, (tokens,) = network.forward_intermediates(x_t, torch.zeros(1, device=device), label, after=[block])
    return tokens.shape[1], tokens.shape[2]
