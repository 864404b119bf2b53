"""`train-step`: forward, backward, optimizer and average of the weights, against a plain network.

All contenders take the same batch, mean squared error and learning rate. Compilation is of one block, reused by all of
them, on both sides.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn

from dit.bench.harness import Row, Run, race
from dit.bench.peers import PlainDiT, inputs, network
from dit.bench.settings import Settings
from dit.layers.precision import bf16_pays
from dit.models.dit.network import DiT
from dit.models.network import compile_blocks, hidden_matrices, narrowest_width
from dit.training.config import EmaConfig, OptimConfig
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer

CASES = (("dit_s_4", 32), ("dit_s_2", 16))
DECAY = 0.9999


def run(settings: Settings) -> Iterator[Row]:
    """Measure every case."""
    for name, batch, share in settings.cases(CASES):
        settings.say(f"train-step {name}, batch {batch}")
        plain = partial(plain_step, name, batch, settings)
        contenders: dict[str, Callable[[], Run]] = {
            "dit": partial(our_step, name, batch, settings),
            "plain float32": plain,
            "plain float32 compiled": partial(plain, compiled=True),
            "dit with muon": partial(our_step, name, batch, settings, optimizer_name="muon"),
        }
        contenders |= settings.in_bf16(
            {
                "plain autocast": partial(plain, autocast=True),
                "plain autocast compiled": partial(plain, autocast=True, compiled=True),
            }
        )
        yield from race("train-step", f"{name} batch {batch}", contenders, share)


def our_step(name: str, batch: int, settings: Settings, *, optimizer_name: str = "adamw") -> Run:
    """Return a step as `dit train` makes it."""
    model = network(name, settings)
    average = Ema(model, EmaConfig(decay=DECAY))
    optimizer = create_optimizer(model, OptimConfig(name=optimizer_name), hidden_matrices(model))
    compile_blocks(model)
    counter = iter(range(1, 10**9))
    half = bf16_pays(settings.device, narrowest_width(model))
    return _step(
        model, optimizer, lambda: average.update(next(counter)), inputs(model, batch, settings.device), autocast=half
    )


def plain_step(name: str, batch: int, settings: Settings, *, autocast: bool = False, compiled: bool = False) -> Run:
    """Return a step of the plain network with torch's own optimizer and a foreach average."""
    ours = network(name, settings)
    model = PlainDiT(ours.arguments).to(settings.device) if isinstance(ours, DiT) else ours
    averages = [parameter.detach().clone() for parameter in model.parameters()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=compiled)
    if compiled:
        for block in model.get_submodule("blocks").children():
            block.compile()

    @torch.no_grad()
    def update() -> None:
        torch._foreach_lerp_(averages, list(model.parameters()), 1 - DECAY)  # pyright: ignore[reportPrivateImportUsage]

    return _step(model, optimizer, update, inputs(ours, batch, settings.device), autocast=autocast)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    update_average: Callable[[], None],
    arguments: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    *,
    autocast: bool,
) -> Run:
    x = arguments[0]
    noise = torch.randn_like(x)

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            output = model(*arguments)
        loss = (output[:, : x.shape[1]].float() - noise).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average()

    return step
