"""`denoise`: one call of the network while sampling, against diffusers' network.

Ours is a step of `DiT.prepare`, whose modulations were computed for all steps before: `sample` times that too.
"""

from typing import Any

import torch
from torch import nn

from dit.bench.harness import Row, Run, race
from dit.bench.limits import forward_seconds
from dit.bench.peers import diffusers_dit
from dit.bench.settings import Settings
from dit.layers.precision import bf16_pays
from dit.models.dit import DiT
from dit.models.variants import resolve_arguments

CASES = (("dit_s_2", 1), ("dit_s_2", 8), ("dit_b_2", 8), ("dit_xl_2", 1))


def run(settings: Settings) -> list[Row]:
    """Measure every case."""
    rows = []
    for name, batch in CASES[1:2] if settings.quick else CASES:
        settings.say(f"denoise {name}, batch {batch}")
        rows += measure(name, batch, settings)
    return rows


@torch.inference_mode()
def measure(name: str, batch: int, settings: Settings) -> list[Row]:
    """Race one network at one batch size."""
    arguments = resolve_arguments(name)
    large = name == "dit_xl_2"
    contenders: dict[str, Run] = {"dit": our_call(arguments, batch)}
    if not large:
        contenders["diffusers float32"] = their_call(diffusers_dit(arguments), arguments, batch)
    contenders["diffusers bf16"] = their_call(diffusers_dit(arguments, torch.bfloat16), arguments, batch)
    if not large:
        contenders["diffusers bf16 compiled"] = their_call(
            compile_blocks(diffusers_dit(arguments, torch.bfloat16)), arguments, batch
        )
    limit = forward_seconds(arguments, batch, torch.bfloat16)
    result = race(contenders, rounds=settings.rounds, say=settings.say)
    return result.rows("denoise", f"{name} batch {batch}", ours="dit", limit=limit)


def our_call(arguments: dict[str, Any], batch: int) -> Run:
    """Return one of our calls, at the precision that sampling chooses by itself."""
    model = DiT(**arguments).eval().requires_grad_(False)
    if bf16_pays("cpu", arguments["hidden_size"]):
        model.blocks_in(torch.bfloat16)
    x, t, y = inputs(arguments, batch)
    step = model.prepare(t[:1], y)
    return lambda: step(x, 0)


def their_call(model: nn.Module, arguments: dict[str, Any], batch: int) -> Run:
    """Return one call of diffusers' network."""
    x, t, y = inputs(arguments, batch)
    x = x.to(next(model.parameters()).dtype)
    return lambda: model(x, timestep=t.long(), class_labels=y).sample


def compile_blocks(model: nn.Module) -> nn.Module:
    """Compile every block of diffusers' network in place, as its documentation advises."""
    for block in model.get_submodule("transformer_blocks").children():
        block.compile()
    return model


def inputs(arguments: dict[str, Any], batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return latents (B, C, H, W), times (B,) and labels (B,)."""
    x = torch.randn(batch, arguments["in_channels"], *arguments["input_size"])
    return x, torch.full((batch,), 500.0), torch.arange(batch) % max(1, arguments["num_classes"])
