"""UniPC of order 2: a predictor like DPM-Solver++'s and a corrector that costs no further network call.

In l = log(alpha / sigma), h = l_{k+1} - l_k, B = e^-h - 1, m_k the data predicted at x_k:

    base      = (sigma_{k+1} / sigma_k) x_k - alpha_{k+1} B m_k
    predictor = base - alpha_{k+1} B / 2 D,                      D = (m_{k-1} - m_k) / r,  r = (l_{k-1} - l_k) / h
    corrector = base - alpha_{k+1} B (p D + q (m_{k+1} - m_k)),  with p + q = b_1, r p + q = b_2

The corrector for a step is applied when the next one has called the network at the predicted state.

Source: Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models", NeurIPS
2023, algorithms 5 and 6 with B_2(h), data prediction.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dit.sampling.grid import Grid
from dit.sampling.solvers import SolverOptions
from dit.sampling.solvers.step import Denoise, NoiseOfStep, Solver, Step


@dataclass(frozen=True)
class _Memory:
    """The step before: its state before it was made, the data predicted there and one step earlier, if used."""

    x: Tensor
    data: Tensor
    earlier: Tensor | None


@dataclass(frozen=True)
class UniPC(Solver):
    """Corrects the state at t_k, then predicts the one at t_{k+1}; one network call."""

    options: SolverOptions

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`."""
        denoised = denoise(x, grid.t[k])
        data = denoised.x_0
        if memory is not None:
            x = _correct(x, data, k, grid, memory)
        half = grid.half_log_snr
        h = half[k + 1] - half[k]
        earlier = memory.data if memory is not None and h.isfinite() else None
        predicted = _base(x, data, k, grid)
        if earlier is not None:
            r = (half[k - 1] - half[k]) / h
            predicted = predicted - (_weight(k, grid) / (2 * r)).to(x) * (earlier - data)
        return Step(predicted, denoised, _Memory(x, data, earlier))


def _base(x: Tensor, data: Tensor, k: int, grid: Grid) -> Tensor:
    """Return the first-order step from t_k."""
    return (grid.sigma[k + 1] / grid.sigma[k]).to(x) * x - _weight(k, grid).to(x) * data


def _weight(k: int, grid: Grid) -> Tensor:
    half = grid.half_log_snr
    return grid.alpha[k + 1] * torch.expm1(half[k] - half[k + 1])


def _correct(x: Tensor, data: Tensor, k: int, grid: Grid, before: _Memory) -> Tensor:
    """Return the state at t_k, improved by the data predicted there."""
    half = grid.half_log_snr
    h = half[k] - half[k - 1]
    if not h.isfinite():
        return x  # the step from alpha = 0 has no expansion in h
    base, weight = _base(before.x, before.data, k - 1, grid), _weight(k - 1, grid)
    change = data - before.data
    spread = half[k - 2] - half[k - 1] if before.earlier is not None else torch.tensor(-torch.inf)
    if before.earlier is None or not spread.isfinite():
        return base - (weight / 2).to(x) * change
    b = torch.expm1(-h)
    phi_1 = -b / h - 1
    b_1, b_2 = phi_1 / b, 2 * (-phi_1 / h - 0.5) / b
    r = spread / h
    p = (b_2 - b_1) / (r - 1)
    return base - (weight * p / r).to(x) * (before.earlier - before.data) - (weight * (b_1 - p)).to(x) * change
