"""`denoise`: one call of the network while sampling, against its plain forward pass and diffusers' network.

Ours is a step of `prepare`, whose modulations were computed for all steps before: `sample` times that too.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from dit.bench.harness import Row, Run, race
from dit.bench.peers import diffusers_dit, fast_network, inputs, network
from dit.bench.settings import Settings
from dit.models.dit.network import DiT

CASES = (("dit_s_2", 1), ("dit_s_2", 8), ("dit_b_2", 8))


@torch.inference_mode()
def run(settings: Settings) -> Iterator[Row]:
    """Measure every case."""
    for name, batch, share in settings.cases(CASES):
        settings.say(f"denoise {name}, batch {batch}")
        ours = fast_network(name, settings.device)
        x, t, y = inputs(ours, batch, settings.device)

        def our_step(ours: Any = ours, x: Any = x, t: Any = t, y: Any = y) -> Run:
            if not hasattr(ours, "prepare"):
                return lambda: ours(x, t, y)
            step = ours.prepare(t[:1], y)
            return lambda: step(x, 0)

        def forward(name: str = name, x: Any = x, t: Any = t, y: Any = y) -> Run:
            plain = network(name, settings.device)
            return lambda: plain(x, t, y)

        contenders: dict[str, Callable[[], Run]] = {"dit": our_step, "forward float32": forward}
        if isinstance(ours, DiT):
            contenders |= _of_diffusers(ours, batch, settings)
        yield from race("denoise", f"{name} batch {batch}", contenders, share)


def _of_diffusers(ours: DiT, batch: int, settings: Settings) -> dict[str, Callable[[], Run]]:
    def build(dtype: torch.dtype, is_compiled: bool = False) -> Run:
        model = diffusers_dit(ours.arguments, dtype).to(settings.device)
        if is_compiled:  # every block in place, as its documentation advises
            for block in model.get_submodule("transformer_blocks").children():
                block.compile()
        return _call(model, *inputs(ours, batch, settings.device))

    halves = {
        "diffusers bf16": lambda: build(torch.bfloat16),
        "diffusers bf16 compiled": lambda: build(torch.bfloat16, True),
    }
    return {"diffusers float32": lambda: build(torch.float32), **settings.in_bf16(halves)}


def _call(model: nn.Module, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> Run:
    x, t = x.to(next(model.parameters()).dtype), t.long()
    return lambda: model(x, timestep=t, class_labels=y).sample
