"""The limit of a network's speed: its matrix products alone, at the exact shapes, with nothing between them.

What a network needs beyond that goes to norms, modulation, activation, softmax and the interpreter.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from dit.bench.harness import Run

_FIRST_FACTOR = {torch.ops.aten.mm.default: 0, torch.ops.aten.bmm.default: 0, torch.ops.aten.addmm.default: 1}
Shapes = tuple[tuple[int, ...], tuple[int, ...]]
"""Shapes of the two factors."""


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[Shapes] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FIRST_FACTOR:
            first = _FIRST_FACTOR[func]
            self.shapes.append((tuple(args[first].shape), tuple(args[first + 1].shape)))
        return func(*args, **(kwargs or {}))


def products(network: Any, arguments: tuple[Tensor, ...], conditions: dict[str, Tensor]) -> list[Shapes]:
    """Return the shapes of all products of one forward pass, those of attention included; on the meta device."""
    # Inference mode would keep a linear layer whole.
    with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Recorder() as recorder:
        network(*(x.to("meta") for x in arguments), **{name: x.to("meta") for name, x in conditions.items()})
    return recorder.shapes


def operations(shapes: list[Shapes]) -> int:
    """Return the operations of products, two for a multiply-accumulate."""
    return sum(2 * math.prod(first) * second[-1] for first, second in shapes)


def replay(shapes: list[Shapes], device: torch.device, dtype: torch.dtype) -> Run:
    """Return the work of these products; factors of one shape are the same tensors, so that memory is no limit."""
    made: dict[Shapes, tuple[Tensor, Tensor]] = {}
    for first, second in shapes:
        factors = (
            torch.randn(first, device=device, dtype=dtype),
            torch.randn((*second[:-2], second[-1], second[-2]), device=device, dtype=dtype).mT,  # as weights lie
        )
        made.setdefault((first, second), factors)

    def run() -> None:
        for pair in shapes:
            torch.matmul(*made[pair])

    return run
