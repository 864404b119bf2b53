"""What an auxiliary loss is: one number per sample, taken of a pass of the network, and what may go with it.

B batch, C latent channels, H x W latent, T tokens, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dit.diffusion.process import Process
from dit.models.family import Arguments
from dit.training.batch import Batch
from dit.training.ranks.processes import Processes
from dit.training.ranks.sharding import is_sharded


@dataclass(frozen=True)
class Surroundings:
    """What a loss may need of the run that it is part of."""

    arguments: Arguments
    """Of the network."""
    average: Any
    """The network with the primary average as weights, in evaluation mode."""
    processes: Processes
    """Device and precision."""
    seed: int
    """The run's seed."""
    max_steps: int
    """Optimizer steps in all."""
    num_features: int | None = None
    """Size of the cached features that batches hold, D; None: they hold none."""


class Watched:
    """The network as a process calls it; the tokens of the last call are remembered."""

    def __init__(self, network: Callable[..., Any], **options: Any) -> None:
        self.network, self.options = network, options

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor, **conditions: Tensor) -> Tensor:
        """Return the network's output."""
        self.output, self.tokens = self.network(x_t, t, y, **self.options, **conditions)
        return self.output


@dataclass(frozen=True)
class Pass:
    """A micro-batch on its way through the network, for the process's own loss."""

    step: int
    """Optimizer step, from 0."""
    batch: Batch
    """What went in."""
    process: Process
    """What corrupted it and reads the output."""
    network: Callable[..., Any]
    """The network with heads, as it is trained, for a further pass."""
    t: Tensor
    """(B,) float64, times in (0, 1]."""
    output: Tensor
    """(B, C or 2C, H, W) what the network returned."""
    tokens: Tensor | None = None
    """(B, T, D) the tokens that the loss asked for, its head applied."""
    keep: Tensor | None = None
    """(B, T') the tokens that the network was shown; None: all."""

    @property
    def prediction(self) -> Tensor:
        """(B, C, H, W) the output, sign applied, without a half for the variance."""
        return self.process.split(self.output)[0]

    def target(self, x_0: Tensor, noise: Tensor) -> Tensor:
        """Return what the network is trained to return for other data and noise at the same times: (B, C, H, W)."""
        return self.process.prediction.target(self.process.schedule, self.t, x_0, noise)


class AuxiliaryLoss(ABC):
    """One auxiliary loss; made of its section and its surroundings.

    Attributes:
        block: number of blocks, from 1, after which it needs the tokens; None: it needs none.
        head: what is applied to these tokens, trained along and never exported; None: they are taken as they are.
        until_step: steps that it is taken in; None: all.
    """

    block: int | None = None
    head: nn.Module | None = None
    until_step: int | None = None

    def __init__(self, config: Any, surroundings: Surroundings) -> None:
        self.config, self.surroundings = config, surroundings

    def keep(self, batch: Batch, step: int) -> Tensor | None:
        """Return the tokens (B, T') int64 that the pass of the process's own loss shows the network; None: all."""
        return None

    @abstractmethod
    def __call__(self, seen: Pass) -> Tensor:
        """Return the loss of each sample before its weight: (B,)."""

    def at_rest(self, seen: Pass) -> Tensor:
        """Return (B,) zeros, for a step that it is not taken in; the head gets a gradient of zero all the same.

        Without one a gradient exchange would wait for it, unless the weights are dealt to the processes.
        """
        parameters = [] if self.head is None else [p for p in self.head.parameters() if not is_sharded(p)]
        return torch.zeros_like(seen.t, dtype=torch.float32, device=seen.output.device) + 0 * sum(
            parameter.sum() for parameter in parameters
        )
