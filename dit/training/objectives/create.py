"""From a recipe's `objective` section to the objective of a run, and what does not fit in one line."""

from importlib import import_module

import torch
from torch import nn

from dit.diffusion.prediction import VelocityPrediction
from dit.diffusion.process import Process
from dit.errors import ConfigError
from dit.models import network as protocols
from dit.models.network import Network
from dit.rng import Purpose, generator
from dit.training.config import TrainConfig
from dit.training.objectives.auxiliary import AuxiliaryLoss, Surroundings
from dit.training.objectives.config import AuxiliaryConfig, ObjectiveConfig
from dit.training.objectives.objective import Objective, WithHeads
from dit.training.ranks.processes import Processes

CAPABILITIES = {"CanShowTokens": "can show its tokens between blocks", "CanMask": "can be trained on some tokens"}


def check_objective(config: ObjectiveConfig, network: type[Network], process: Process) -> None:
    """Refuse auxiliary losses that the network, the process or another one has nothing for.

    Raises:
        ConfigError: naming the loss and what it needs.
    """
    if config.routing is not None:
        _check_routing(config, network, process)
    hiding = next((section.name for section in config.auxiliary if section.hides_tokens), None)
    for section in config.auxiliary:
        where = f"objective.auxiliary: {section.name}"
        if process.config.name not in section.processes:
            known = " or ".join(section.processes)
            raise ConfigError(f"{where}: expected process {known}, found {process.config.name}")
        if section.needs and not issubclass(network, getattr(protocols, section.needs)):
            raise ConfigError(
                f"{where}: expected a network that {CAPABILITIES[section.needs]}, found {network.__name__}, which can't"
            )
        if hiding and section.needs == "CanShowTokens":
            raise ConfigError(f"{where}: expected all tokens, found {hiding} beside it, which leaves some out")
        if section.needs_velocity and not isinstance(process.prediction, VelocityPrediction):
            raise ConfigError(f"{where}: expected a process with prediction velocity, found {process.config.name}")


def _check_routing(config: ObjectiveConfig, network: type[Network], process: Process) -> None:
    where = "objective.routing"
    if not issubclass(network, protocols.CanRoute):
        raise ConfigError(
            f"{where}: expected a network whose blocks are one plain sequence over its tokens, found "
            f"{network.__name__}, whose are not"
        )
    if process.config.name not in AuxiliaryConfig.processes:
        known = " or ".join(AuxiliaryConfig.processes)
        raise ConfigError(f"{where}: expected process {known}, found {process.config.name}")


def check_sizes(config: ObjectiveConfig, network: Network, micro_batch: int) -> None:
    """Refuse blocks that the network does not have, and groups that a micro-batch does not hold whole.

    Raises:
        ConfigError: naming the field.
    """
    depth, routing = len(network.block_list()), config.routing
    if routing is not None and routing.rejoin_after > depth:
        raise ConfigError(
            f"objective.routing.rejoin_after: expected a block of the network's {depth}, found {routing.rejoin_after}"
        )
    for number, section in enumerate(config.auxiliary):
        for field, value in section:
            where = f"objective.auxiliary.{number}.{field}: {section.name}"
            if field.endswith("block") and value > depth:
                raise ConfigError(f"{where}: expected a block of the network's {depth}, found {value}")
            if field == "block" and routing is not None and routing.leave_after < value < routing.rejoin_after:
                raise ConfigError(
                    f"{where}: expected a block after which all tokens are there, up to {routing.leave_after} or from "
                    f"{routing.rejoin_after} on (objective.routing), found {value}"
                )
            if field == "group" and micro_batch % value:
                raise ConfigError(
                    f"{where}: expected a divisor of the {micro_batch} images that go through the network at a time, "
                    f"found {value}"
                )


def freeze_unused(config: ObjectiveConfig, network: Network) -> None:
    """Freeze what only a masked pass uses, where no loss makes one: no gradient would ever reach it."""
    if any(section.needs == "CanMask" for section in config.auxiliary):
        return
    for name, parameter in network.named_parameters():
        if name.startswith(network.masked_only):
            parameter.requires_grad_(False)


def create_objective(
    config: ObjectiveConfig,
    process: Process,
    network: Network,
    average: nn.Module,
    processes: Processes,
    train: TrainConfig,
    num_features: int | None = None,
) -> Objective:
    """Put the losses of a run together, with the network as Accelerate prepares it.

    Args:
        config: the recipe's section.
        process: makes the first loss.
        network: the network, on its device.
        average: the network with averaged weights.
        processes: who takes part.
        train: seed, from which the losses draw, their heads first of all, and length of the run.
        num_features: size of the cached features that batches hold.
    """
    surroundings = Surroundings(network.arguments, average, processes, train.seed, train.max_steps, num_features)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(int(generator(train.seed, Purpose.INIT).integers(2**63)))
        losses = {section.name: _create(section, surroundings) for section in config.auxiliary}
    trained = network
    if losses or config.routing is not None:
        trained = WithHeads(network, losses, config.routing).to(processes.device).train()
    # With average velocities the network is asked several times, by turns with and without gradients.
    makes_one_pass = trained is network and process.config.name != "average_velocity"
    prepared = processes.prepare(trained, is_static=makes_one_pass and train.gradient_accumulation == 1)
    return Objective(process, prepared, trained, losses, config.routing)


def _create(section: AuxiliaryConfig, surroundings: Surroundings) -> AuxiliaryLoss:
    module, _, name = section.loss.partition(":")
    return getattr(import_module(module), name)(section, surroundings)
