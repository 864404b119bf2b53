"""Which parameters of a network a run trains: all of them, those of some names, or low-rank updates.

What is not trained has no gradient, no state of the optimizer and no copy in the averages.
"""

import torch

from dit.models.lora import add_lora, matched
from dit.models.network import Network
from dit.models.updates import ALPHA, updated_layers
from dit.rng import Purpose, generator
from dit.training.config import LoraConfig, PatternsConfig, TrainableConfig


def choose_trained(network: Network, config: TrainableConfig, seed: int) -> None:
    """Freeze what is not trained, in place, and add the low-rank updates.

    Args:
        network: the network; what is frozen already stays so.
        config: the recipe's field `optim.trainable`.
        seed: from which the updates are drawn.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    if not isinstance(config, PatternsConfig | LoraConfig):
        return
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    field, patterns = ("also", config.also) if isinstance(config, LoraConfig) else ("patterns", config.patterns)
    kept = set(matched(patterns, trained, field=field, kind="a parameter that can be trained"))
    for name, parameter in trained.items():
        parameter.requires_grad_(name in kept)
    if isinstance(config, LoraConfig):
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(int(generator(seed, Purpose.INIT, position=1).integers(2**63)))
            add_lora(network, config.targets, rank=config.rank, alpha=config.alpha)


def trained_names(network: torch.nn.Module) -> list[str]:
    """Return the names of the tensors that training changes, with what belongs to them, in a network's state dict."""
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    alphas = {layer + ALPHA for layer in updated_layers(trained)}
    return [name for name in network.state_dict() if name in trained | alphas]


def count_trained(network: torch.nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
