"""The limit: how long the matrix products alone take, at the exact shapes, each run by itself on contiguous operands.

Nothing that computes the same network with these products is faster, whatever it fuses. B batch, T tokens, D width,
d head width.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dit.bench.harness import timed
from dit.models.variants import num_tokens

REPEATS = 7


def product_seconds(rows: int, inner: int, columns: int, dtype: torch.dtype, *, batch: int | None = None) -> float:
    """Return the least seconds of one product (rows, inner) x (inner, columns), or of a batch of them."""
    lead = () if batch is None else (batch,)
    a = torch.randn(*lead, rows, inner, dtype=dtype)
    b = torch.randn(*lead, inner, columns, dtype=dtype)
    out = torch.empty(*lead, rows, columns, dtype=dtype)
    # The weight of a Linear is stored transposed; the products are timed in both layouts and the better one counts.
    turned = b.mT.contiguous().mT
    return min(timed(lambda c=c: torch.matmul(a, c, out=out)) for _ in range(REPEATS) for c in (b, turned))


def forward_seconds(arguments: Mapping[str, Any], batch: int, dtype: torch.dtype) -> float:
    """Return the seconds of all products of the blocks of a DiT's forward pass at this batch size."""
    width, tokens, heads = arguments["hidden_size"], num_tokens(arguments), arguments["num_heads"]
    rows, mlp_width = batch * tokens, int(width * arguments["mlp_ratio"])
    block = sum(product_seconds(rows, inner, out, dtype) for inner, out in _linears(width, mlp_width))
    block += sum(product_seconds(*shape, dtype, batch=batch * heads) for shape in _attention(tokens, width // heads))
    return arguments["depth"] * block


def step_seconds(arguments: Mapping[str, Any], batch: int, dtype: torch.dtype) -> float:
    """Return the seconds of all products of the blocks' forward and backward pass."""
    width, tokens, heads = arguments["hidden_size"], num_tokens(arguments), arguments["num_heads"]
    rows, mlp_width = batch * tokens, int(width * arguments["mlp_ratio"])
    block = 0.0
    for inner, out in _linears(width, mlp_width):
        for shape in ((rows, inner, out), (rows, out, inner), (out, rows, inner)):  # output, input and weight gradients
            block += product_seconds(*shape, dtype)
    # Backward passes of the two products are two products each, of the same sizes.
    for t, inner, s in _attention(tokens, width // heads):
        for shape in ((t, inner, s), (t, s, inner), (inner, t, s)):
            block += product_seconds(*shape, dtype, batch=batch * heads)
    return arguments["depth"] * block


def module_seconds(model: nn.Module, example: Any, dtype: torch.dtype) -> float:
    """Return the seconds of all convolutions and linears of a network, each run alone in its best memory format."""
    calls: list[tuple[nn.Module, torch.Size]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, given: calls.append((module, given[0].shape)))
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    known: dict[tuple[Any, ...], float] = {}
    total = 0.0
    for module, shape in calls:
        weight = module.get_parameter("weight")
        key = (type(module), shape, weight.shape, getattr(module, "stride", None))
        if key not in known:
            known[key] = _module_seconds(module, shape, dtype)
        total += known[key]
    return total


@torch.no_grad()
def _module_seconds(module: nn.Module, shape: torch.Size, dtype: torch.dtype) -> float:
    x = torch.randn(shape, dtype=dtype)
    weight = module.get_parameter("weight").to(dtype)
    if isinstance(module, nn.Linear):
        return min(timed(lambda: nn.functional.linear(x, weight)) for _ in range(REPEATS))
    assert isinstance(module, nn.Conv2d)
    x, weight = (tensor.to(memory_format=torch.channels_last) for tensor in (x, weight))
    layer: Any = module
    product = lambda: nn.functional.conv2d(x, weight, None, layer.stride, layer.padding)  # noqa: E731
    return min(timed(product) for _ in range(REPEATS))


def _linears(width: int, mlp_width: int) -> list[tuple[int, int]]:
    return [(width, 3 * width), (width, width), (width, mlp_width), (mlp_width, width)]


def _attention(tokens: int, head_width: int) -> list[tuple[int, int, int]]:
    return [(tokens, head_width, tokens), (tokens, tokens, head_width)]
