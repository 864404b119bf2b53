"""Linear layers and GELU in the form that is fastest where they run.

Outside torch.compile a CPU has two fast forms, and a layer that neither serves is called as it is:

    without gradients, bfloat16 input and weights   one oneDNN kernel for product, bias and activation
    training under bfloat16 autocast                products of our own in the backward pass, see `weight_gradient`

gelu(x) = x/2 (1 + tanh(k (x + 0.044715 x^3))) = x sigmoid(2 k (x + 0.044715 x^3)), k = sqrt(2 / pi)

Source: Hendrycks & Gimpel, "Gaussian error linear units", 2016, section 2.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu as torch_gelu

_TWO_K = 2 * math.sqrt(2 / math.pi)


def gelu(x: Tensor) -> Tensor:
    """Return the activation, in its tanh approximation, of x (...): of x's shape and type."""
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        # The compiler's exp is far cheaper than its tanh on a CPU; forward and backward were 12% of a training step.
        # A rational approximation of tanh was no faster than exp.
        return _Gelu.apply(x)  # pyright: ignore[reportReturnType]
    return torch_gelu(x, approximate="tanh")


def linear(x: Tensor, layer: nn.Module) -> Tensor:
    """Return layer(x) for x (..., D)."""
    if _can_fuse(x, layer):
        # Takes the bias in the product's epilogue, where torch's own linear fills the output with it first.
        return _fused(x, layer.weight, layer.bias, "none")
    if _trains_in_bf16_on_cpu(x, layer):
        with torch.autocast("cpu", enabled=False):
            bias = None if layer.bias is None else layer.bias.bfloat16()
            return _Linear.apply(x.bfloat16(), layer.weight.bfloat16(), bias)  # pyright: ignore[reportReturnType]
    return layer(x)


def linear_gelu(x: Tensor, layer: nn.Module) -> Tensor:
    """Return gelu(layer(x)) for x (..., D), the activation applied in the product's epilogue."""
    if _can_fuse(x, layer):
        return _fused(x, layer.weight, layer.bias, "gelu")
    return gelu(linear(x, layer))


class _Gelu(torch.autograd.Function):
    """x s with s = sigmoid(2 k (x + 0.044715 x^3)); its derivative is s + x s (1 - s) 2 k (1 + 3 * 0.044715 x^2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        wide = x.float()
        return (wide * _sigmoid_of_gelu(wide)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        wide = x.float()
        s = _sigmoid_of_gelu(wide)
        slope = s * (1 + wide * (1 - s) * (_TWO_K + 3 * 0.044715 * _TWO_K * wide * wide))
        return (gradients[0].float() * slope).to(x.dtype)


def _sigmoid_of_gelu(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(x * (-_TWO_K - 0.044715 * _TWO_K * x * x)))


class _Linear(torch.autograd.Function):
    """A linear layer whose weight gradient is formulated for a CPU: see `weight_gradient`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].flatten(0, -2)  # (rows, out)
        of_input, of_weight, of_bias = ctx.needs_input_grad  # what is frozen costs nothing
        return (
            gradients[0] @ weight if of_input else None,
            weight_gradient(gradient, x.flatten(0, -2)) if of_weight else None,
            # A product with ones sums the columns in the order of memory; the compiler's own sum strides through it.
            (gradient.new_ones(1, len(gradient)) @ gradient)[0] if of_bias else None,
        )


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Return gradient^T x for the output's gradient (rows, out) and the input x (rows, in): (out, in).

    The narrower of the two is transposed in memory first: a product with a transposed operand runs at half the speed
    of one without, and copying the wider one costs more than it gains. Sums over slices of the rows were slower.
    """
    if gradient.shape[1] <= x.shape[1]:
        return gradient.t().contiguous() @ x
    # Back in the weight's own layout: a gradient in another one is copied, element by element, where it is accumulated.
    return (x.t().contiguous() @ gradient).t().contiguous()


def _trains_in_bf16_on_cpu(x: Tensor, layer: nn.Module) -> bool:
    return (
        _is_plain_on_cpu(x, layer)
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def _can_fuse(x: Tensor, layer: nn.Module) -> bool:
    """Tell whether the fused kernel serves: it has no gradient, and beats separate ones in bfloat16 with AMX."""
    return (
        _is_plain_on_cpu(x, layer)
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and x.dtype == layer.weight.dtype == torch.bfloat16
        and has_fused_kernel()
    )


def _is_plain_on_cpu(x: Tensor, layer: nn.Module) -> bool:
    """Tell whether this is a linear layer of torch's own with ordinary weights, not quantised or sharded ones."""
    return x.device.type == "cpu" and type(layer) is nn.Linear and type(layer.weight) in (nn.Parameter, Tensor)


def _fused(x: Tensor, weight: Any, bias: Any, activation: str) -> Tensor:
    """Return activation(x weight^T + bias), GELU in its tanh approximation, by oneDNN's kernel."""
    algorithm = "tanh" if activation == "gelu" else ""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], algorithm)


@cache
def has_fused_kernel() -> bool:
    """Tell whether oneDNN has the kernel in this process: it is tried, for so ONEDNN_MAX_CPU_ISA counts too.

    A processor without AVX-512 has none for bfloat16, though torch has the operator and computes in that type.
    """
    one = torch.ones(1, 1, dtype=torch.bfloat16)
    try:
        _fused(one, one, None, "gelu")
    except (AttributeError, RuntimeError):  # no such operator in this build; no such kernel for this processor
        return False
    return True
