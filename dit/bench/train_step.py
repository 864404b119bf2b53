"""`train-step`: forward, backward, optimizer and average of the weights, against a plain network.

All contenders take the same batch, mean squared error and learning rate. Compilation is of one block, reused by all of
them, on both sides. `dit with lora` is our own step where low-rank updates alone are trained; `memory` is what both
hold: weights, gradients, the optimizer's state and averages. `dit.bench.objectives` has further rows.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from dit.bench import objectives
from dit.bench.harness import Row, Run, race
from dit.bench.peers import PlainDiT, forward_operations, inputs, network
from dit.bench.settings import Settings
from dit.layers.precision import bf16_pays
from dit.models.dit.network import DiT
from dit.models.network import Network, compile_blocks, hidden_matrices, narrowest_width
from dit.training.config import EmaConfig, LoraConfig, OptimConfig
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer
from dit.training.weights.trainable import choose_trained

CASES = (("dit_s_4", 32), ("dit_s_2", 16))
DECAY = 0.9999
WHOLE = OptimConfig()
LORA = OptimConfig(trainable=LoraConfig(rank=16))


def run(settings: Settings) -> Iterator[Row]:
    """Measure every case."""
    for name, batch, share in settings.cases((*CASES, *objectives.CASES)):
        if settings.model or (name, batch) in objectives.CASES:
            yield from objectives.measure(name, batch, share)
        if not settings.model and (name, batch) in objectives.CASES:
            continue
        settings.say(f"train-step {name}, batch {batch}")
        plain = partial(plain_step, name, batch, settings)
        contenders: dict[str, Callable[[], Run]] = {
            "dit": partial(our_step, name, batch, settings, WHOLE),
            "dit with lora": partial(our_step, name, batch, settings, LORA),
            "plain float32": plain,
            "plain float32 compiled": partial(plain, compiled=True),
            "dit with muon": partial(our_step, name, batch, settings, OptimConfig(name="muon")),
        }
        contenders |= settings.in_bf16(
            {
                "plain autocast": partial(plain, autocast=True),
                "plain autocast compiled": partial(plain, autocast=True, compiled=True),
            }
        )
        work = 3 * forward_operations(name, batch, settings)  # the backward pass takes twice the forward pass
        yield from race("train-step", f"{name} batch {batch}", contenders, share, operations=work)
        ours, theirs = (held_bytes(network(name, settings), config) / 1e6 for config in (WHOLE, LORA))
        ratio = theirs / ours
        yield Row("train-step", name, "dit with lora, memory", ratio, ratio, ratio, ours, theirs, 1, unit="MB")


def held_bytes(model: Network, config: OptimConfig) -> int:
    """Return the bytes of weights, gradients, optimizer state and average from the first step on; shared ones once."""
    optimizer, average = _optimizer_and_average(model, config)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    held: list[Any] = [parameter.grad for parameter in parameters]
    held += [value for state in optimizer.state.values() for value in state.values()]
    held += [*model.state_dict().values(), *average.network.state_dict().values()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in held if isinstance(tensor, torch.Tensor)}.values())


def our_step(name: str, batch: int, settings: Settings, config: OptimConfig) -> Run:
    """Return a step as `dit train` makes it."""
    model = network(name, settings)
    half = bf16_pays(settings.device, narrowest_width(model), in_training=True)
    optimizer, average = _optimizer_and_average(model, config)
    compile_blocks(model)
    counter = iter(range(1, 10**9))
    return training_step(
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

    return training_step(model, optimizer, update, inputs(ours, batch, settings.device), autocast=autocast)


def _optimizer_and_average(model: Network, config: OptimConfig) -> tuple[torch.optim.Optimizer, Ema]:
    """Return both as `dit train` makes them, after freezing what is not trained."""
    choose_trained(model, config.trainable, seed=0)
    return create_optimizer(model, config, hidden_matrices(model)), Ema(model, EmaConfig(decay=DECAY))


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    update_average: Callable[[], None],
    arguments: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    *,
    autocast: bool,
) -> Run:
    """Return a step: forward on arguments (x, t, y), mean squared error, backward, optimizer, average."""
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
