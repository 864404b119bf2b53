"""Parameters and cost of a network, known beforehand for every variant and every entry of the zoo.

`counts.json` is written by `tools/count_models.py`; what it does not hold is counted on the network itself, built on
the meta device, which costs the import of torch. This file is free of it.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from dit.models.families import differences
from dit.models.family import Arguments

PATH = Path(__file__).with_name("counts.json")


class Counts(NamedTuple):
    """The two figures of a network."""

    parameters: int
    """Fixed position embeddings counted, as the published figures do."""
    macs: int
    """Multiply-accumulates of one forward pass of one sample, QK^T and AV included; DiT's paper calls it Gflops."""


def count(name: str, arguments: Arguments) -> Counts:
    """Return parameters and cost of a variant's network with these arguments."""
    known = _known().get(key(name, arguments))
    return Counts(*known) if known else count_live(name, arguments)


def key(name: str, arguments: Arguments) -> str:
    """Return the key of a network in `counts.json`: its variant and what differs from that."""
    return " ".join([name, *(f"{field}={json.dumps(value)}" for field, value in differences(name, arguments).items())])


def count_live(name: str, arguments: Arguments) -> Counts:
    """Count on the network."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from dit.models.registry import build

    with torch.device("meta"), torch.no_grad():
        network = build(name, arguments).eval()
        x = torch.empty(1, arguments.in_channels, *arguments.input_size)
        # Other kernels of attention are not counted by all versions.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            conditions = {name: torch.zeros(1) for name in network.condition_names}
            network(x, torch.zeros(1), torch.zeros(1, dtype=torch.int64), **conditions)
    return Counts(sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2)


@cache
def _known() -> dict[str, list[int]]:
    return json.loads(PATH.read_text(encoding="utf-8"))
