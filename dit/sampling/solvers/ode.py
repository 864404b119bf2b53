"""Solvers of the probability-flow ODE d x / d t = alpha' x_0 + sigma' eps in the schedule's own time.

Where the network's output gives no velocity at the end of a step (t = 0 of most diffusion processes) the step is taken
along the straight line to the predicted data instead, which is exact there.

Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, section
4.3; Lipman et al., "Flow matching for generative modeling", ICLR 2023.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dit.diffusion.process import Denoised
from dit.diffusion.schedule import Schedule
from dit.sampling.grid import Grid
from dit.sampling.solvers import Dopri5Options, HeunOptions, SolverOptions
from dit.sampling.solvers.adaptive import integrate_adaptively
from dit.sampling.solvers.step import Denoise, NoiseOfStep, Solver, Step


def velocity(denoised: Denoised, schedule: Schedule, t: Tensor) -> Tensor:
    """Return d x / d t at time t () float64: (B, C, H, W)."""
    return schedule.d_alpha(t).to(denoised.x_0) * denoised.x_0 + schedule.d_sigma(t).to(denoised.eps) * denoised.eps


@dataclass(frozen=True)
class OdeSolver(Solver):
    """A solver that draws no noise and looks at one step alone."""

    options: SolverOptions

    @property
    def is_invertible(self) -> bool:
        """Always."""
        return True


class Euler(OdeSolver):
    """First order, one network call: x + h v(x, t); exact with an average velocity over the step."""

    @property
    def spans_steps(self) -> bool:
        """Always."""
        return True

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`."""
        denoised = denoise(x, grid.t[k])
        return Step(x + _width(grid, k).to(x) * velocity(denoised, grid.schedule, grid.t[k]), denoised)


@dataclass(frozen=True)
class Heun(OdeSolver):
    """Second order, two network calls: x + h/2 (v(x, t) + v(x', t + h)), with x' from Euler's step."""

    options: HeunOptions

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`."""
        denoised = denoise(x, grid.t[k])
        width, t_end = _width(grid, k).to(x), grid.t[k + 1]
        if not grid.has_velocity[k + 1] or (t_end == 0 and self.options.ends_with == "data"):
            return Step(_to_data_and_noise_level(denoised, grid, k), denoised)
        v = velocity(denoised, grid.schedule, grid.t[k])
        guided_at = {"guided_at": float(grid.t[k])} if self.options.guided_by == "step" else {}
        v_end = velocity(denoise(x + width * v, t_end, **guided_at), grid.schedule, t_end)
        return Step(x + width * (v + v_end) / 2, denoised)


class Midpoint(OdeSolver):
    """Second order, two network calls: x + h v(x + h/2 v(x, t), t + h/2)."""

    def call_times(self, grid: Grid) -> Tensor:
        """Return the starts and the middles of the steps: (2 N,) float64."""
        middles = (grid.t[:-1] + grid.t[1:]) / 2
        return torch.stack([grid.t[:-1], middles], dim=1).flatten()

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`."""
        denoised = denoise(x, grid.t[k])
        width, middle = _width(grid, k), (grid.t[k] + grid.t[k + 1]) / 2
        halfway = x + (width / 2).to(x) * velocity(denoised, grid.schedule, grid.t[k])
        return Step(x + width.to(x) * velocity(denoise(halfway, middle), grid.schedule, middle), denoised)


@dataclass(frozen=True)
class Dopri5(OdeSolver):
    """Adaptive Dormand-Prince of order 5 within each step of the grid; see `integrate_adaptively`."""

    options: Dopri5Options

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`."""
        denoised, tolerance = denoise(x, grid.t[k]), self.options.tolerance

        def slope(t: Tensor, x: Tensor) -> Tensor:
            return velocity(denoise(x, t), grid.schedule, t)

        if grid.has_velocity[k + 1]:
            return Step(integrate_adaptively(slope, x, *grid.t[k : k + 2], tolerance=tolerance), denoised)
        first = torch.tensor(grid.schedule.first_time, dtype=torch.float64)
        if grid.t[k] <= first:
            return Step(_to_data_and_noise_level(denoised, grid, k), denoised)
        # The straight line is exact at the end of the path alone, however long the step.
        x = integrate_adaptively(slope, x, grid.t[k], first, tolerance=tolerance)
        return Step(_to_data_and_noise_level(denoise(x, first), grid, k), denoised)


def _to_data_and_noise_level(denoised: Denoised, grid: Grid, k: int) -> Tensor:
    """Return alpha x_0 + sigma eps at t_{k+1}."""
    x_0, eps = denoised.x_0, denoised.eps
    return grid.alpha[k + 1].to(x_0) * x_0 + grid.sigma[k + 1].to(eps) * eps


def _width(grid: Grid, k: int) -> Tensor:
    return grid.t[k + 1] - grid.t[k]
