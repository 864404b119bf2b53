"""Low-rank updates of linear layers (LoRA): y = W x + b + (alpha / r) B A x, with W and b as they are.

A (r, in) is drawn and B (out, r) zero at first, so that training begins at the network as it was. In a state dict a
layer X has X.lora_A.weight, X.lora_B.weight (peft's names) and X.alpha (a number) beside its own tensors; `merge` folds
the three of them into its weight, W + (alpha / r) B A, for everything that knows nothing of them.

Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, eq. 3.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dit.errors import ConfigError
from dit.models.network import Network
from dit.models.updates import ALPHA, PARTS, updated_layers


class LoraLinear(nn.Linear):
    """A linear layer with its update; it takes over the layer's own parameters, under the same names."""

    def __init__(self, layer: nn.Linear, *, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)  # a weight of its own would be drawn in vain
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = alpha / rank
        self.register_buffer(ALPHA[1:], torch.tensor(float(alpha)))
        self.lora_A = nn.Linear(self.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, self.out_features, bias=False)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))  # uniform within 1 / sqrt(in), as linear layers
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's own name
        """Return the updated layer's output (..., out) for input (..., in)."""
        trained = (parameter.requires_grad for parameter in (self.weight, self.bias) if parameter is not None)
        # Half precision would round a small update away if it were added to the weight.
        is_exact = not torch.is_autocast_enabled(input.device.type) and input.dtype == self.weight.dtype
        if torch.is_grad_enabled() and is_exact and not any(trained):
            return _Updated.apply(  # pyright: ignore[reportReturnType]
                input, self.weight, self.bias, self.lora_A.weight, self.lora_B.weight, self.scale
            )
        return super().forward(input) + self.lora_B(self.scale * self.lora_A(input))


class _Updated(torch.autograd.Function):
    """x (W + s B A)^T + b, whose gradients of A and B take no product of the size of W: s (g B)^T x and s g^T (x A^T).

    Adding the update to the weight is cheaper than to the output, for there are far more tokens than features.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        return linear(x, torch.addmm(weight, b, a, alpha=scale), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        (gradient,) = gradients
        of_x = gradient @ torch.addmm(weight, b, a, alpha=ctx.scale) if ctx.needs_input_grad[0] else None
        x, gradient = x.flatten(0, -2), gradient.flatten(0, -2)  # (rows, in), (rows, out)
        of_a, of_b = (gradient @ b).t() @ x, gradient.t() @ (x @ a.t())
        return of_x, None, None, ctx.scale * of_a, ctx.scale * of_b, None


def add_lora(network: Network, targets: Sequence[str], *, rank: int, alpha: float) -> None:
    """Give linear layers of a network's blocks an update, in place; A is drawn from torch's generator of the CPU.

    Args:
        network: the network; what is trained is left to the caller.
        targets: shell patterns of the names of layers, such as "*.attn.*".
        rank: columns of B and rows of A.
        alpha: the update is scaled by alpha / rank.

    Raises:
        ConfigError: a pattern matches no linear layer of the blocks.
    """
    modules = (layer for block in network.block_list() for layer in block.modules())
    inside = {id(layer): layer for layer in modules if isinstance(layer, nn.Linear)}
    layers = {name: inside[id(layer)] for name, layer in network.named_modules() if id(layer) in inside}
    for name in matched(targets, layers, field="targets", kind="a linear layer of the network's blocks"):
        updated = LoraLinear(layers[name], rank=rank, alpha=alpha)
        network.set_submodule(name, updated.to(layers[name].weight.device))


def matched(patterns: Sequence[str], names: Iterable[str], *, field: str, kind: str) -> list[str]:
    """Return the names that match one of some shell patterns, in their order.

    Args:
        patterns: shell patterns.
        names: what there is.
        field: what a message calls the patterns.
        kind: what the names are of.

    Raises:
        ConfigError: one of the patterns matches nothing.
    """
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise ConfigError(
                f"optim.trainable.{field}: expected patterns of names of {kind} ({shown}), found {pattern!r}, which "
                "matches none"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def merge(tensors: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype | None] | None = None) -> dict[str, Tensor]:
    """Return a state dict with every update folded into its layer's weight.

    Args:
        tensors: a network's tensors and those of updates, by name.
        dtypes: types of the updated weights; their own by default.
    """
    merged = dict(tensors)
    for layer in updated_layers(tensors):
        a, b, alpha = (merged.pop(layer + part).float() for part in PARTS)
        weight = merged[name := f"{layer}.weight"]
        dtype = (dtypes or {}).get(name) or weight.dtype
        merged[name] = (weight.float() + (alpha / len(a)) * (b @ a)).to(dtype)
    return merged
