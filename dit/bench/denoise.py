"""`denoise`: one call of the network while sampling, against its plain forward pass and diffusers' network.

Ours is a step of `prepare`, whose modulations were computed for all steps before: `sample` times that too. The ratio of
`products alone` is the share of the limit that it reaches.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import nn

from dit.bench.harness import Row, Run, race
from dit.bench.peers import diffusers_dit, fast_network, forward_operations, inputs, network
from dit.bench.products import products, replay
from dit.bench.settings import Settings
from dit.layers.compiler import Compilation
from dit.layers.precision import dtype_of
from dit.models.dit.network import DiT
from dit.models.graphs import Graphs
from dit.models.network import CanPrepare, compile_blocks

CASES = (("dit_s_2", 1), ("dit_s_2", 8), ("dit_b_2", 8))


@torch.inference_mode()
def run(settings: Settings) -> Iterator[Row]:
    """Measure every case."""
    for name, batch, share in settings.cases(CASES):
        settings.say(f"denoise {name}, batch {batch}")
        yield from _race(name, batch, share)


def _race(name: str, batch: int, settings: Settings) -> Iterator[Row]:
    ours = fast_network(name, settings)
    x, t, y = inputs(ours, batch, settings.device)
    conditions = {condition: torch.zeros_like(t) for condition in ours.condition_names}

    def our_step(compiled: Compilation = "off") -> Run:
        network = ours if compiled == "off" else compile_blocks(fast_network(name, settings), dynamic=False)
        network.graphs = Graphs() if compiled == "graphs" else None
        if not isinstance(network, CanPrepare):
            return lambda: network(x, t, y, **conditions)
        step = network.prepare(t[:1], y, **{condition: value[:1] for condition, value in conditions.items()})
        return lambda: step(x, 0)

    def products_alone() -> Run:
        empty = network(name, replace(settings, device=torch.device("meta"))).eval()
        return replay(products(empty, (x, t, y), conditions), settings.device, dtype_of(ours.block_list()[0]))

    def forward() -> Run:
        plain = network(name, settings).eval()
        return lambda: plain(x, t, y, **conditions)

    contenders: dict[str, Callable[[], Run]] = {
        "dit": our_step,
        "products alone": products_alone,
        "forward float32": forward,
    }
    if isinstance(ours, DiT):
        contenders |= _of_diffusers(ours, batch, settings)
    if settings.device.type == "cuda":
        contenders |= {"dit compiled": lambda: our_step("blocks"), "dit graphs": lambda: our_step("graphs")}
    work = forward_operations(name, batch, settings)
    yield from race("denoise", f"{name} batch {batch}", contenders, settings, operations=work)


def _of_diffusers(ours: DiT, batch: int, settings: Settings) -> dict[str, Callable[[], Run]]:
    def build(dtype: torch.dtype, is_compiled: bool = False) -> Run:
        model = diffusers_dit(ours.arguments, dtype).to(settings.device)
        if is_compiled:  # every block in place, as its documentation advises
            for block in model.get_submodule("transformer_blocks").children():
                block.compile()
        return _call(model, *inputs(ours, batch, settings.device))

    def graphs() -> Run:
        model = diffusers_dit(ours.arguments, torch.bfloat16).to(settings.device)
        model.compile(mode="reduce-overhead", fullgraph=True)
        return _call(model, *inputs(ours, batch, settings.device))

    halves = {
        "diffusers bf16": lambda: build(torch.bfloat16),
        "diffusers bf16 compiled": lambda: build(torch.bfloat16, True),
    }
    if settings.device.type == "cuda":
        halves["diffusers bf16 graphs"] = graphs
    return {"diffusers float32": lambda: build(torch.float32), **settings.in_bf16(halves)}


def _call(model: nn.Module, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> Run:
    x, t = x.to(next(model.parameters()).dtype), t.long()
    return lambda: model(x, timestep=t, class_labels=y).sample
