"""How far a network is from itself with the time frequencies of diffusers.

Ours are 10000^(-i/128), i = 0..127, as in the original; diffusers has 10000^(-i/127) written into its code. Weights
can't make up for that, so the card of an exported model says what it costs.

N times, B samples of a batch, C x H x W latents.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dit.models.variants import count_macs, resolve_arguments
from dit.zoo.folder.weights import empty_model
from dit.zoo.layouts.original import ForeignModel

MAX_MACS = 5e12
"""Most multiply-accumulates that the comparison may cost: about a minute on two cores."""
BATCH_SIZE = 50


@contextmanager
def diffusers_frequencies(model: nn.Module) -> Iterator[None]:
    """Let a network embed time with the frequencies of diffusers while the block runs."""
    embedder: Any = model.t_embedder
    num_frequencies = embedder.num_features // 2

    def features(t: Tensor) -> Tensor:
        exponents = torch.arange(num_frequencies, dtype=torch.float32, device=t.device) / (num_frequencies - 1)
        angles = t.float()[:, None] * torch.exp(-math.log(10000) * exponents)  # (B, 128)
        return torch.cat([angles.cos(), angles.sin()], dim=-1)

    embedder.features = features
    try:
        yield
    finally:
        del embedder.features


@torch.no_grad()
def frequency_difference(model: ForeignModel, *, num_steps: int = 1000) -> dict[str, float]:
    """Measure the network's output with the frequencies of diffusers against its own, at every time.

    Args:
        model: a Gaussian model.
        num_steps: times 0 to num_steps - 1; of a large network as many, evenly spaced, as a minute allows.

    Returns:
        Median and maximum over the times of |a - b| / |b|, each at one sample of noise, and the number of times.
    """
    arguments = resolve_arguments(model.config.model.name, **model.config.model.arguments)
    network: Any = empty_model(model.config.model.name, arguments)
    network.load_state_dict(model.tensors, strict=True, assign=True)
    network.eval().float()
    num_times = int(min(num_steps, max(2, MAX_MACS / (2 * count_macs(arguments)))))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_times, arguments["in_channels"], *arguments["input_size"], generator=generator)  # (N, C, H, W)
    t = torch.linspace(0, num_steps - 1, num_times).round()
    y = torch.arange(num_times) % max(1, arguments["num_classes"])
    differences = []
    for batch in zip(*(values.split(BATCH_SIZE) for values in (x, t, y)), strict=True):
        own = network(*batch).flatten(1)
        with diffusers_frequencies(network):
            theirs = network(*batch).flatten(1)
        differences.append((theirs - own).norm(dim=1) / own.norm(dim=1))
    found = torch.cat(differences)  # (N,)
    return {"median": float(found.median()), "maximum": float(found.max()), "num_times": num_times}
