"""The derivative of a network along a path, forward-mode: d f(x, t) / dt = df/dx v + df/dt for dx/dt = v.

It is computed in the type of x: bfloat16 would lose it. The fused attention kernels have no forward-mode derivative, so
attention is written out here; compiled blocks run as they were before they were compiled.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dit.diffusion.process import Model, UnderAutocast

Path = Callable[[Model, Tensor, Tensor], Tensor]
"""f(network, x (B, C, H, W), t (B,)) -> (B, C, H, W)."""


@torch.no_grad()
def total_derivative(model: Model, function: Path, x: Tensor, t: Tensor, velocity: Tensor) -> Tensor:
    """Return d function(model, x, t) / dt for dx/dt = velocity: (B, C, H, W), without gradient.

    Args:
        model: the network.
        function: asks it.
        x: (B, C, H, W) states.
        t: (B,) times, of x's type.
        velocity: (B, C, H, W).

    Source: Geng et al., "Mean flows for one-step generative modeling", NeurIPS 2025, equation 8.
    """
    _load_rules()
    exact = model.without_autocast if isinstance(model, UnderAutocast) else model
    with (
        torch.autocast(x.device.type, enabled=False),
        sdpa_kernel(SDPBackend.MATH),
        torch.compiler.set_stance("force_eager"),
    ):
        tangents = velocity.to(x), torch.ones_like(t)
        return torch.func.jvp(lambda x, t: function(exact, x, t), (x, t), tangents)[1]


@cache
def _load_rules() -> None:
    """Load torch's rules for forward-mode differentiation, which warns of the torch.jit that they are written in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))
