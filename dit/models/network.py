"""What every network is, and what some can do besides: the one place that other parts ask.

A network is a function of noised latents, time and label, without randomness: label drop, masks and times are drawn by
training. Its capabilities are protocols, asked for by `isinstance(network, CanPrepare)` and never by a family's name.

B batch, C latent channels, H x W latent, T tokens, D width, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from dit.errors import ConfigError
from dit.models.family import Arguments
from dit.models.graphs import Graphs

Step = Callable[..., Tensor]
"""step(x_t (B, C, H, W), i, rows=slice(None)) -> output of the network at the i-th time for those rows of labels."""


class Network(nn.Module):
    """Base of all networks: `Class(arguments)` draws the weights, or leaves them empty on the meta device."""

    arguments: Arguments
    """What it was built from; frozen."""
    condition_names: ClassVar[tuple[str, ...]] = ()
    """Names of what `forward` takes besides time and class, each (B,)."""
    masked_only: ClassVar[tuple[str, ...]] = ()
    """What the names of the parameters begin with that `forward_masked` alone uses."""
    modulations: ClassVar[frozenset[str]] = frozenset({"adaLN_modulation"})
    """Names, in a block, of layers that see the condition and no token."""
    graphs: Graphs | None = None
    """What replays its calls of `prepare` on a GPU; None: nothing."""

    def __init__(self, arguments: Arguments) -> None:
        super().__init__()
        self.arguments = arguments

    @property
    def null_class(self) -> int | None:
        """Label of the null class; None where the network has none."""
        return self.arguments.null_class

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor, **conditions: Tensor) -> Tensor:
        """Predict from noised latents. Labels are taken as they are, in train mode too.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time as the network embeds it, integer or real.
            y: (B,) int64 labels in [0, K]; K is the null class, where there is one.
            conditions: what a family takes besides, each (B,) and named in its own signature, where it has a default.

        Returns:
            (B, C, H, W), or with further channels for the variance.
        """
        raise NotImplementedError

    def check_input(self, x: Tensor) -> None:
        """Refuse latents of another shape than (B, C, H, W).

        Raises:
            ConfigError: naming both shapes.
        """
        expected, found = (self.arguments.in_channels, *self.arguments.input_size), tuple(x.shape[1:])
        if found != expected:
            shapes = ("x".join(map(str, shape)) for shape in (expected, found))
            raise ConfigError("x: expected latents of {}, found {}".format(*shapes))

    def block_list(self) -> list[nn.Module]:
        """Return the repeated modules in the order they run: what is cast, compiled, checkpointed and sharded.

        It is not called `blocks`, for that is a published key, which in some networks holds a part of them only.
        """
        raise NotImplementedError


@runtime_checkable
class CanPrepare(Protocol):
    """A network that computes beforehand what depends on times and labels alone."""

    def prepare(self, t_grid: Tensor, y: Tensor, **options: Any) -> Step:
        """Return step(x_t, i, rows) for times t_grid (N,) as the network embeds them and labels y (R,)."""
        ...


@runtime_checkable
class CanShowTokens(Protocol):
    """A network whose tokens between blocks can be asked for, to align them with another encoder's."""

    def forward_intermediates(
        self, x_t: Tensor, t: Tensor, y: Tensor, *, after: Sequence[int], **conditions: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output of `forward`, and the tokens (B, T, D) after each of these numbers of blocks, from 1."""
        ...


@runtime_checkable
class CanMask(Protocol):
    """A network that can be trained on some of the tokens."""

    def forward_masked(self, x_t: Tensor, t: Tensor, y: Tensor, keep: Tensor, **conditions: Tensor) -> Tensor:
        """Return the output (B, C, H, W) where the blocks see only the tokens keep (B, T') int64."""
        ...


@runtime_checkable
class CanRoute(Protocol):
    """A network whose blocks are one plain sequence over its tokens, some of which may skip some of the blocks."""

    def forward_routed(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        keep: Tensor,
        *,
        leave_after: int,
        rejoin_after: int,
        after: Sequence[int] = (),
        **conditions: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `forward_intermediates` does where all but some tokens skip blocks, and go on unchanged.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time as the network embeds it.
            y: (B,) int64 labels.
            keep: (B, T') int64 numbers of the tokens that go through all blocks.
            leave_after: number of blocks, from 1, after which the others leave; 0: before the first.
            rejoin_after: number of blocks after which they are back.
            after: numbers of blocks, not between these two.
            conditions: as `forward` takes them.
        """
        ...


@runtime_checkable
class CanFit(Protocol):
    """A network that takes over weights of other classes, sizes or channels."""

    def fit(self, weights: Mapping[str, Tensor], old: Any, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from.

        Args:
            weights: of a network with the arguments `old`.
            old: equal to `self.arguments` in all but `Arguments.fitted`.
            rows: label of this network -> label of the old one whose embedding it takes, the null class included.

        Raises:
            ConfigError: the channels of one can't be made from the other's.
        """
        ...


N = TypeVar("N", bound=Network)


def cast_blocks(network: N, dtype: torch.dtype) -> N:
    """Hold and compute the blocks in another type, in place; what is small stays as it is, inputs and outputs too."""
    for block in network.block_list():
        block.to(dtype)
    return network


def compile_blocks(network: N, *, dynamic: bool | None = None) -> N:
    """Compile one block for all of a kind, in place; names of parameters stay as they are.

    Args:
        network: the network.
        dynamic: as `torch.compile` takes it; False: anew for each shape.
    """
    for block in network.block_list():
        block.compile(dynamic=dynamic)
    return network


def block_names(network: Network) -> set[str]:
    """Return the names of the blocks' tensors in the network's state dict."""
    prefixes = {id(module): name for name, module in network.named_modules()}
    return {f"{prefixes[id(block)]}.{name}" for block in network.block_list() for name in block.state_dict()}


def hidden_matrices(network: Network) -> list[Tensor]:
    """Return the weights of the blocks' linear layers, without modulations.

    An optimizer may treat these as maps from tokens to tokens. A modulation is none: its gradient is of as many
    directions as there are images in a batch.
    """
    named = ((name, layer) for block in network.block_list() for name, layer in block.named_modules())
    return [
        layer.weight
        for name, layer in named
        if isinstance(layer, nn.Linear) and not network.modulations.intersection(name.split("."))
    ]


def narrowest_width(network: Network) -> int:
    """Return the least number of inputs of the blocks' linear layers: the width D; 0 where they have none."""
    layers = (layer for block in network.block_list() for layer in block.modules())
    return min((layer.in_features for layer in layers if isinstance(layer, nn.Linear)), default=0)
