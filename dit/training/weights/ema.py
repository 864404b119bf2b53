"""Averages of the weights: theta_n = d_n theta_(n-1) + (1 - d_n) theta, updated once per optimizer step.

Each average is a network whose parameters are the averages themselves, so it is ready to sample from; parameters that
are not trained are the network's own, not copies. Several decays and power-function averages can be tracked at once.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dit.training.config import EmaConfig
from dit.training.ranks.sharding import own_part, whole_of
from dit.training.weights.posthoc import sigma_rel_to_gamma
from dit.training.weights.trainable import trained_names

PRIMARY = "ema"
"""Name of the average that previews, evaluations and exports use."""


@dataclass(frozen=True)
class Average:
    """One average of the weights."""

    network: nn.Module
    """Copy of the network, in evaluation mode, that holds the averages and shares what is not trained."""
    decay: Callable[[int], float]
    """Step n >= 1 -> weight of the old average."""


class Ema:
    """The averages of one network, by name: `ema`, `ema-<decay>`, `power-<sigma_rel>`.

    Args:
        model: the network; only its trained parameters are averaged. Frozen ones are shared, buffers copied once.
        config: which averages there are.
        whole: whether `tensors` returns what is not trained too.
    """

    def __init__(self, model: nn.Module, config: EmaConfig, *, whole: bool = True) -> None:
        decays = {PRIMARY: exponential(config.decay, warmup=config.warmup)}
        decays |= {f"{PRIMARY}-{decay}": exponential(decay, warmup=config.warmup) for decay in config.further_decays}
        decays |= {f"power-{width}": power_function(width) for width in config.sigma_rels}
        shared = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
        copies = {name: copy.deepcopy(model, {**shared}).eval().requires_grad_(False) for name in decays}
        self.averages = {name: Average(copies[name], decay) for name, decay in decays.items()}
        self._saved = list(model.state_dict()) if whole else trained_names(model)
        self._empty: nn.Module | None = None  # the network without its weights, where they are dealt to the processes
        self._find_parts(model)

    @property
    def network(self) -> nn.Module:
        """The network with the primary averages as weights."""
        return self.averages[PRIMARY].network

    @property
    def power_names(self) -> list[str]:
        """Names of the power-function averages."""
        return [name for name in self.averages if name.startswith("power-")]

    def restart(self, model: nn.Module) -> None:
        """Begin every average anew from the network's weights, which may have been dealt to the processes by now."""
        for average in self.averages.values():
            average.network.load_state_dict(model.state_dict())
        self._find_parts(model)

    def shard(self, shard: Callable[[nn.Module], nn.Module]) -> None:
        """Leave to this process its part of every average, in place, by `shard`; `restart` follows.

        What is not trained is then no longer the network's own, but a part of it as well.
        """
        empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), False) for p in self.network.parameters()}
        self._empty = copy.deepcopy(self.network, {**empty})
        for average in self.averages.values():
            shard(average.network)

    def whole_network(self, name: str = PRIMARY) -> nn.Module:
        """Return the network of an average, to be used by each process alone.

        Where weights are dealt to the processes, all have to ask for it, and it takes the memory of all weights.
        """
        network = self.averages[name].network
        if self._empty is None:
            return network
        gathered = copy.deepcopy(self._empty)
        gathered.load_state_dict({key: whole_of(value) for key, value in network.state_dict().items()}, assign=True)
        return gathered

    def _find_parts(self, model: nn.Module) -> None:
        """Find what is averaged: this process's part of the trained parameters, here and there."""
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        with torch.no_grad():
            self._sources: list[Tensor] = [own_part(parameter) for parameter in trained.values()]
            self._targets: dict[str, list[Tensor]] = {
                name: [own_part(average.network.get_parameter(key)) for key in trained]
                for name, average in self.averages.items()
            }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step`, counted from 1."""
        for name, average in self.averages.items():
            torch._foreach_lerp_(self._targets[name], self._sources, 1 - average.decay(step))  # pyright: ignore[reportPrivateImportUsage]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the state dict of one average, or what training changes of it."""
        state = self.averages[name].network.state_dict()
        return {key: state[key] for key in self._saved}


def exponential(decay: float, *, warmup: bool = False) -> Callable[[int], float]:
    """Return d_n = decay, or min(decay, (1 + n) / (10 + n)) with warm-up."""
    return (lambda step: min(decay, (1 + step) / (10 + step))) if warmup else lambda step: decay


def power_function(sigma_rel: float) -> Callable[[int], float]:
    """Return d_n of the power-function average of this relative width. Source: EDM2, eq. 3."""
    gamma = sigma_rel_to_gamma(sigma_rel)
    return lambda step: (1 - 1 / step) ** (gamma + 1)
