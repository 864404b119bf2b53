"""Calls of a network as CUDA graphs: all kernels of a call are recorded once and then launched together.

A small network's kernels take less time than the host needs to launch them one by one. A graph holds for the shapes
that it was recorded with, reads its arguments from where they were copied to and writes the result to one place.

Source: torch, `torch.cuda.make_graphed_callables`.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

MAX_GRAPHS = 8
"""Shapes that are recorded, each with memory of its own; what comes in others after them is computed as without."""


class Graphs:
    """The recorded calls of one network, by the shapes of their arguments; its weights have to stay where they are."""

    def __init__(self) -> None:
        self.recorded: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
        """Return function(*arguments), replayed where these shapes are known.

        Args:
            function: of tensors on a GPU alone, always the same one; it may not wait for the GPU.
            arguments: what it takes.
        """
        shapes = tuple((argument.shape, argument.dtype) for argument in arguments)
        if shapes not in self.recorded:
            if len(self.recorded) == MAX_GRAPHS:
                return function(*arguments)
            own = tuple(argument.clone() for argument in arguments)  # the graph reads them from there
            self.recorded[shapes] = cast("Any", torch.cuda.make_graphed_callables(function, own))
        # The next call writes to the same memory, and solvers keep what earlier ones returned.
        return self.recorded[shapes](*arguments).clone()


def call(graphs: Graphs | None, function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """Return function(*arguments), replayed where there are graphs."""
    return function(*arguments) if graphs is None else graphs(function, *arguments)
