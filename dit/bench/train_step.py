"""`train-step`: forward, backward, optimizer and average of the weights, against a plain network.

All contenders take the same batch, mean squared error and learning rate. Compilation is of one block, reused by all of
them, on both sides; its time stands apart, and with ours the number of steps after which it has paid.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dit.bench.denoise import inputs
from dit.bench.harness import Row, Run, race
from dit.bench.limits import step_seconds
from dit.bench.peers import PlainDiT
from dit.bench.settings import Settings
from dit.layers.precision import bf16_pays
from dit.models.dit import DiT
from dit.models.variants import resolve_arguments
from dit.training.config import EmaConfig, OptimConfig
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer

CASES = (("dit_s_4", 32), ("dit_s_2", 16))
DECAY = 0.9999


def run(settings: Settings) -> list[Row]:
    """Measure every case."""
    rows = []
    for name, batch in CASES[:1] if settings.quick else CASES:
        settings.say(f"train-step {name}, batch {batch}")
        rows += measure(name, batch, settings)
    return rows


def measure(name: str, batch: int, settings: Settings) -> list[Row]:
    """Race the training steps of one network at one batch size."""
    arguments = resolve_arguments(name)
    contenders = {
        "dit": our_step(arguments, batch),
        "plain float32": plain_step(arguments, batch),
        "plain autocast": plain_step(arguments, batch, autocast=True),
        "plain autocast compiled": plain_step(arguments, batch, autocast=True, compiled=True),
    }
    limit = step_seconds(arguments, batch, torch.bfloat16)
    result = race(contenders, rounds=settings.rounds, warmups=2, say=settings.say)
    return result.rows("train-step", f"{name} batch {batch}", ours="dit", limit=limit)


def our_step(arguments: dict[str, Any], batch: int) -> Run:
    """Return a step as `dit train` makes it."""
    model = DiT(**arguments).train()
    average = Ema(model, EmaConfig(decay=DECAY))
    optimizer = create_optimizer(model, OptimConfig())
    model.compile_blocks()
    counter = iter(range(1, 10**9))
    half = bf16_pays("cpu", arguments["hidden_size"])
    return _step(model, optimizer, lambda: average.update(next(counter)), arguments, batch, autocast=half)


def plain_step(arguments: dict[str, Any], batch: int, *, autocast: bool = False, compiled: bool = False) -> Run:
    """Return a step of the plain network with torch's own optimizer and a foreach average."""
    model = PlainDiT(arguments).train()
    averages = [parameter.detach().clone() for parameter in model.parameters()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=compiled)
    if compiled:
        for block in model.blocks:
            block.compile()

    @torch.no_grad()
    def update() -> None:
        torch._foreach_lerp_(averages, list(model.parameters()), 1 - DECAY)  # pyright: ignore[reportPrivateImportUsage]

    return _step(model, optimizer, update, arguments, batch, autocast=autocast)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    update_average: Callable[[], None],
    arguments: dict[str, Any],
    batch: int,
    *,
    autocast: bool,
) -> Run:
    x, t, y = inputs(arguments, batch)
    noise = torch.randn_like(x)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = model(x, t, y)
        loss = (output[:, : x.shape[1]].float() - noise).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average()

    return step
