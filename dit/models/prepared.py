"""A network with everything that depends on time and class alone computed before the loop.

The modulations of all blocks are linear in SiLU(t_embed + y_embed): they are computed in one product per block for all
steps and distinct classes, so that the loop neither computes them nor reads their weights, a third of the network's.

B samples, N steps, U distinct classes, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dit.layers.precision import dtype_of
from dit.models.cache import StepCache
from dit.models.graphs import Graphs, call

MAX_BYTES = 2**28
"""Largest table of modulations that is kept; a longer sampling computes it for a window of steps at a time."""


CallBlock = Callable[[int, Tensor, dict[str, Tensor]], Tensor]
"""call(i, tokens, inputs) -> tokens after the i-th block, with what it takes besides tokens and conditioning."""


class AdaLNNetwork(Protocol):
    """A network whose blocks see time and label through their modulation alone."""

    final_layer: Any
    """Its `adaLN_modulation` makes (..., 2D) of the conditioning."""
    graphs: Graphs | None
    """What replays its calls; None: nothing."""

    def block_list(self) -> list[nn.Module]:
        """Return the blocks: block(tokens, None, modulation), whose `adaLN_modulation` makes it of the conditioning."""
        ...

    def embed(self, x: Tensor, /) -> Tensor:
        """Return the tokens (B, T, D) of latents (B, C, H, W)."""
        ...

    def run_blocks(self, tokens: Tensor, y: Tensor, call: CallBlock, /) -> Tensor:
        """Take the tokens (B, T, D) of samples with labels y (B,) through all blocks."""
        ...

    def conditioning(self, t: Tensor, y: Tensor, /, **conditions: Tensor) -> Tensor:
        """Return (..., D) for times, labels and what a family takes besides, whose shapes broadcast to (...)."""
        ...

    def leave(self, modulation: Tensor, tokens: Tensor, /) -> Tensor:
        """Return the output for the final modulation (B, 2D) and the tokens (B, T, D)."""
        ...


class Modulations:
    """What layers make of the conditioning, for all times of a grid and all distinct classes.

    Args:
        layers: their `adaLN_modulation` makes (..., values) of it.
        conditioning: conditioning(t, y, **conditions) -> (..., D), of shapes that broadcast to (...).
        times: (N,) times as `conditioning` takes them, or (N, D) embedded ones.
        classes: (U,) int64 labels.
        conditions: each (N,), what `conditioning` takes besides.
    """

    def __init__(
        self,
        layers: Sequence[Any],
        conditioning: Callable[..., Tensor],
        times: Tensor,
        classes: Tensor,
        conditions: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.layers, self.conditioning, self.times, self.classes = layers, conditioning, times, classes
        self.conditions = conditions or {}
        per_class = sum(layer.adaLN_modulation[-1].out_features * dtype_of(layer).itemsize for layer in layers)
        self.window = max(1, MAX_BYTES // max(1, len(classes) * per_class))
        self.first: int | None = None  # step at which the tables begin

    def at(self, i: int) -> list[Tensor]:
        """Return those of step i, of each layer (U, values)."""
        first = i - i % self.window
        if self.first != first:
            window = slice(first, first + self.window)
            conditions = {name: value[window, None] for name, value in self.conditions.items()}
            c = self.conditioning(self.times[window, None], self.classes, **conditions)  # (N, U, D)
            self.tables = [layer.adaLN_modulation(c.to(dtype_of(layer))) for layer in self.layers]
            self.first = first
        return [table[i - first] for table in self.tables]


class Prepared:
    """step(x_t, i): the network at the i-th time of a grid, for labels that are known beforehand.

    Args:
        model: the network.
        t_grid: (N,) times as the network embeds them.
        y: (R,) int64 labels of the rows, for guidance those of both branches.
        cache: reuses the blocks' work between calls; None computes every call.
        conditions: each (N,), what the network's `conditioning` takes besides.
    """

    def __init__(
        self,
        model: AdaLNNetwork,
        t_grid: Tensor,
        y: Tensor,
        cache: StepCache | None = None,
        conditions: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model, self.cache, self.times = model, cache, t_grid.tolist()
        self.classes, self.class_of_row = y.unique(return_inverse=True)  # (U,), (R,)
        layers = [*model.block_list(), model.final_layer]
        self.modulations = Modulations(layers, model.conditioning, t_grid, self.classes, conditions)

    @torch.no_grad()
    def __call__(self, x_t: Tensor, i: int, rows: slice = slice(None)) -> Tensor:
        """Predict at time t_grid[i].

        Args:
            x_t: (B, C, H, W) noised latents.
            i: index of the time.
            rows: of which labels; so many as samples, or a multiple, and then each multiple sees the same samples.

        Returns:
            (rows, C or 2C, H, W).
        """
        class_of_row = self.class_of_row[rows]
        y = self.classes[class_of_row]  # (rows,)
        modulations = [values[class_of_row] for values in self.modulations.at(i)]  # each (rows, values)
        if (cache := self.cache) is None:
            return call(self.model.graphs, partial(predict, self.model), x_t, y, *modulations)
        part = (rows.start, rows.stop)
        return predict(self.model, x_t, y, *modulations, around=partial(cache, part, self.times[i]))


def predict(
    model: AdaLNNetwork,
    x_t: Tensor,
    y: Tensor,
    *modulations: Tensor,
    around: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor] = lambda tokens, blocks: blocks(tokens),
) -> Tensor:
    """Return the output (R, C or 2C, H, W) of a network whose modulations are known.

    Args:
        model: the network.
        x_t: (B, C, H, W) noised latents; R is B or a multiple.
        y: (R,) labels.
        modulations: of each block, and of the final layer, each (R, values).
        around: around(tokens, blocks) calls the blocks or does without.
    """
    tokens = model.embed(x_t).repeat(len(y) // len(x_t), 1, 1)  # (R, T, D)
    blocks: list[Any] = list(model.block_list())
    *of_blocks, final = modulations

    def call_block(i: int, tokens: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return blocks[i](tokens, None, of_blocks[i], **inputs)

    return model.leave(final, around(tokens, lambda tokens: model.run_blocks(tokens, y, call_block)))
