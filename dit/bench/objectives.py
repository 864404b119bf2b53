"""`train-step`, its rows of objectives: the step of a loss or of routing against the plain step of the same network.

All are made as `dit train` makes them, but for compilation, with AdamW and one average; the ratio is that of the times
of both steps, which targets bound from above. Cached features lie in memory in their type of storage: the reading of
batches is `data`'s.

B batch, D features, C x H x W latents.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from dit.bench.harness import Row, Run, race
from dit.bench.peers import network
from dit.bench.settings import Settings
from dit.diffusion.config import AverageVelocityConfig, FlowConfig, ImfLoss, MeanFlowLoss, ProcessConfig
from dit.diffusion.create import create_process
from dit.models.network import CanRoute, CanShowTokens, Network, hidden_matrices, narrowest_width
from dit.models.registry import network_class
from dit.rng import StepDraws
from dit.training.batch import Batch
from dit.training.config import EmaConfig, OptimConfig, TrainConfig
from dit.training.objectives.config import AlignmentConfig, ObjectiveConfig, Routing
from dit.training.objectives.create import create_objective
from dit.training.objectives.masks import patches_of
from dit.training.ranks.processes import start_processes
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer

CASES = (("dit_b_2", 4), ("meanflow_ti_2", 32), ("imf_ti_2", 32))
NUM_FEATURES = 768
"""Of DINOv2 B."""
FLOW = FlowConfig()
AVERAGE = {"r": AverageVelocityConfig(), "h": AverageVelocityConfig(condition="h")}
PLAIN = ObjectiveConfig()


def measure(name: str, batch: int, settings: Settings) -> Iterator[Row]:
    """Yield the rows of what the network can be trained by besides its plain loss."""
    build = partial(objective_step, name, batch, settings)
    kind = network_class(name)
    if (told := set(kind.condition_names)) and told.isdisjoint(AVERAGE):
        return
    if told:
        plain = AVERAGE[next(iter(told & set(AVERAGE)))]
        loss = ImfLoss() if "guidance" in told else MeanFlowLoss()
        trained = plain.model_copy(update={"loss": loss})
        contenders: dict[str, Callable[[], Run]] = {"plain": partial(build, plain, PLAIN)}
        if loss.name == "imf":  # trained along with a second output, which the plain loss does without
            settings_of_both = replace(settings, arguments={**settings.arguments, "velocity_head": True})
            build = partial(objective_step, name, batch, settings_of_both)
        contenders[f"with loss {loss.name}"] = partial(build, trained, PLAIN)
    else:
        contenders = {"plain": partial(build, FLOW, PLAIN)}
        if issubclass(kind, CanShowTokens):
            aligned = ObjectiveConfig(auxiliary=(AlignmentConfig(block=4, features="memory"),))
            contenders["with alignment, cached features"] = partial(build, FLOW, aligned)
        if issubclass(kind, CanRoute):
            contenders["with routing of half the tokens"] = partial(build, FLOW, None)
    if len(contenders) > 1:
        settings.say(f"train-step {name}, batch {batch}, objectives")
        yield from race("train-step", f"{name} batch {batch}", contenders, settings)


def objective_step(
    name: str, batch: int, settings: Settings, process_config: ProcessConfig, config: ObjectiveConfig | None
) -> Run:
    """Return a step of a network by a process and an objective; None: by routing between its first and last blocks."""
    model: Network = network(name, settings).train()
    if config is None:
        depth = len(model.block_list())
        routing = Routing(leave_after=depth // 6, rejoin_after=depth - depth // 4)
        config = ObjectiveConfig(routing=routing)
    if isinstance(process_config, FlowConfig):
        learn_sigma = getattr(model.arguments, "learn_sigma", False)
        process_config = process_config.model_copy(update={"learn_sigma": learn_sigma})
    process = create_process(process_config, model.null_class)
    train = TrainConfig(batch_size=batch)
    average, processes = Ema(model, EmaConfig(decay=0.9999)), start_processes(train, narrowest_width(model))
    num_features = NUM_FEATURES if config.alignment else None
    objective = create_objective(config, process, model, average.network, processes, train, num_features)
    optimizer = create_optimizer(objective.trained, OptimConfig(), hidden_matrices(model))
    parts, number = make_batch(model, batch, process.num_uniforms, num_features, settings.device), 0

    def step() -> None:
        nonlocal number
        objective.total(objective.losses(parts, number)).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        number += 1
        average.update(number)

    return step


def make_batch(model: Network, num: int, num_uniforms: int, num_features: int | None, device: torch.device) -> Batch:
    """Return a batch of random latents (B, C, H, W), labels, numbers and, where a loss reads them, features."""
    shape, draws = (num, model.arguments.in_channels, *model.arguments.input_size), StepDraws(0, 0, num, range(num))
    u = torch.rand(num, num_uniforms, dtype=torch.float64)
    features = None
    if num_features is not None:
        grid = patches_of(model.arguments).grid_size
        features = torch.randn(num, num_features, *grid, device=device).bfloat16()
    return Batch(
        positions=range(num),
        indices=np.arange(num),
        x_0=torch.randn(shape, device=device),
        y=torch.arange(num, device=device) % max(1, model.arguments.num_classes),
        noise=torch.randn(shape, device=device),
        u=u[:, 0] if num_uniforms == 1 else u,
        draws=draws,
        features=features,
    )
