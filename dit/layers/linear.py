"""Linear layers and GELU in the form that is fastest where they run.

gelu(x) = x/2 (1 + tanh(k (x + 0.044715 x^3))) = x sigmoid(2 k (x + 0.044715 x^3)), k = sqrt(2 / pi)

Source: Hendrycks & Gimpel, "Gaussian error linear units", 2016, section 2.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu as torch_gelu

_TWO_K = 1.5957691216057308


def gelu(x: Tensor) -> Tensor:
    """Return the activation, in its tanh approximation, of x (...): of x's shape and type."""
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        # The compiler's exp is far cheaper than its tanh on a CPU; forward and backward were 12% of a training step.
        wide = x.float()
        return (wide * torch.sigmoid(_TWO_K * (wide + 0.044715 * wide * wide * wide))).to(x.dtype)
    return torch_gelu(x, approximate="tanh")


def linear(x: Tensor, layer: nn.Module) -> Tensor:
    """Return layer(x) for x (..., D)."""
    if _can_fuse(x, layer):
        # Takes the bias in the product's epilogue, where torch's own linear fills the output with it first.
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return layer(x)


def linear_gelu(x: Tensor, layer: nn.Module) -> Tensor:
    """Return gelu(layer(x)) for x (..., D), the activation applied in the product's epilogue."""
    if _can_fuse(x, layer):
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "gelu", [], "tanh")
    return gelu(layer(x))


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
