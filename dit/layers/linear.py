"""Linear layers and GELU in the form that is fastest where they run.

gelu(x) = x/2 (1 + tanh(k (x + 0.044715 x^3))) = x sigmoid(2 k (x + 0.044715 x^3)), k = sqrt(2 / pi)

Source: Hendrycks & Gimpel, "Gaussian error linear units", 2016, section 2.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu as torch_gelu

from dit.layers.int8 import Int8Linear

_TWO_K = 1.5957691216057308


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
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    if _trains_in_bf16_on_cpu(x, layer):
        with torch.autocast("cpu", enabled=False):
            return _Linear.apply(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16())  # pyright: ignore
    return layer(x)


def linear_gelu(x: Tensor, layer: nn.Module) -> Tensor:
    """Return gelu(layer(x)) for x (..., D), the activation applied in the product's epilogue."""
    if _can_fuse(x, layer):
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "gelu", [], "tanh")
    if isinstance(layer, Int8Linear):
        return layer(x, "gelu")
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
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].flatten(0, -2)  # (rows, out)
        # A product with ones sums the columns in the order of memory; the compiler's own sum strides through it.
        of_bias = (gradient.new_ones(1, len(gradient)) @ gradient)[0]
        return gradients[0] @ weight, weight_gradient(gradient, x.flatten(0, -2)), of_bias


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
        x.device.type == "cpu"
        and torch.is_grad_enabled()
        and type(layer) is nn.Linear
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and type(layer.weight) is nn.Parameter
    )


def _can_fuse(x: Tensor, layer: nn.Module) -> bool:
    """Tell whether oneDNN's fused kernel serves: it has no gradient, and beats separate ones in bfloat16 with AMX."""
    return (
        x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and type(layer) is nn.Linear
        and layer.weight.dtype == torch.bfloat16
        and type(layer.weight) in (nn.Parameter, Tensor)  # not a quantised or sharded one
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
