"""Muon for matrices and AdamW for all other parameters, as one optimizer.

    m <- mu m + (1 - mu) g
    W <- (1 - lr wd) W - lr 0.2 sqrt(max(M, N)) polar((1 - mu) g + mu m)

polar(G) = U V^T where G = U S V^T; five Newton-Schulz iterations come near it, with singular values of 0.7 to 1.2 in
place of 1. The factor makes the root mean square of a step 0.2, the usual one of AdamW's, so that its learning rates
and weight decays fit. torch.optim.Muon computes in bfloat16 alone, which many CPUs only emulate: float32 there.

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the factor: Liu et al., "Muon
is Scalable for LLM Training", 2025, eq. 4.

M x N a matrix, K matrices of one shape.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from dit.layers.precision import has_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the iteration X <- a X + b (X X^T) X + c (X X^T)^2 X; they make small singular values grow fastest."""
NUM_ITERATIONS = 5
MIN_NORM = 1e-7
RMS_OF_ADAMW = 0.2
MAX_STACK = 8
"""Matrices that are iterated at a time: few calls for a GPU, little memory."""


class Muon(AdamW):
    """Muon in the groups that have a `momentum`, AdamW in the others.

    Args:
        groups: parameters; those of a group with a `momentum` are matrices.
        lr: learning rate of groups that do not say their own.
        arguments: AdamW's.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], *, lr: float, **arguments: Any) -> None:
        super().__init__(groups, lr=lr, fused=True, **arguments)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one step; the gradients of the matrices are then used up."""
        assert closure is None
        for group in self.param_groups:
            if group.get("momentum") is not None:
                for parameters in _stacks([p for p in group["params"] if p.grad is not None]):
                    self._update(parameters, group)
        super().step()  # passes over parameters without a gradient

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update K matrices of one shape; where the device found the step to be bad, by nothing."""
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        gradient = torch.stack([p.grad for p in parameters if p.grad is not None])  # (K, M, N)
        momenta, is_good = [self._momentum(p) for p in parameters], 1.0
        if found_inf is not None:
            gradient, is_good = gradient.where(found_inf == 0, 0.0), (found_inf == 0).to(gradient.dtype)
        momentum = torch.stack(momenta).lerp(gradient, (1 - group["momentum"]) * is_good)
        torch._foreach_copy_(momenta, momentum.unbind())  # pyright: ignore[reportPrivateImportUsage]
        update = orthogonalise(gradient.lerp(momentum, group["momentum"]))
        rate, (rows, columns) = group["lr"] * is_good, parameters[0].shape
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
        step = update * (-rate * RMS_OF_ADAMW * max(rows, columns) ** 0.5)
        torch._foreach_add_(parameters, step.unbind())  # pyright: ignore[reportPrivateImportUsage]
        for parameter in parameters:
            parameter.grad = None

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            # AdamW looks for the step in every state that it loads.
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def orthogonalise(matrices: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return about U V^T of each matrix G = U S V^T: (K, M, N) float32.

    Args:
        matrices: (K, M, N).
        dtype: arithmetic; by default bfloat16 where the device has it in hardware, else float32.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices  # the products X X^T are of the shorter side
    x = x.to(dtype or (torch.bfloat16 if has_bf16(matrices.device) else torch.float32))
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=MIN_NORM)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).float()


def _stacks(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Split parameters into lists of one shape, of at most MAX_STACK."""
    of_shape: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        of_shape.setdefault(parameter.shape, []).append(parameter)
    return [same[i : i + MAX_STACK] for same in of_shape.values() for i in range(0, len(same), MAX_STACK)]
