"""Solvers of the probability-flow ODE d x / d t = alpha' x_0 + sigma' eps in the schedule's own time.

Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, section
4.3; Lipman et al., "Flow matching for generative modeling", ICLR 2023.
"""

from typing import Any

from torch import Tensor

from dit.diffusion.process import Denoised
from dit.sampling.grid import Grid
from dit.sampling.solvers.step import Denoise, NoiseOfStep, Step


def euler(x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
    """First order, one network call: x + (t_{k+1} - t_k) v(x, t_k)."""
    denoised = denoise(x, grid.t[k])
    return Step(x + _width(grid, k, x) * velocity(denoised, grid, grid.t[k]), denoised)


def heun(x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
    """Second order, two network calls: the velocities at both ends of the step are averaged.

    Where the velocity is infinite at the end (t = 0 of variance-preserving schedules) the step is Euler's.
    """
    denoised = denoise(x, grid.t[k])
    v = velocity(denoised, grid, grid.t[k])
    predicted = x + _width(grid, k, x) * v
    if not grid.schedule.d_sigma(grid.t[k + 1]).isfinite():
        return Step(predicted, denoised)
    v_end = velocity(denoise(predicted, grid.t[k + 1]), grid, grid.t[k + 1])
    return Step(x + _width(grid, k, x) * (v + v_end) / 2, denoised)


def velocity(denoised: Denoised, grid: Grid, t: Tensor) -> Tensor:
    """Return d x / d t at time t () float64: (B, C, H, W)."""
    schedule = grid.schedule
    return schedule.d_alpha(t).to(denoised.x_0) * denoised.x_0 + schedule.d_sigma(t).to(denoised.eps) * denoised.eps


def _width(grid: Grid, k: int, x: Tensor) -> Tensor:
    return (grid.t[k + 1] - grid.t[k]).to(x)
