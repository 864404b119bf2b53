"""Euler-Maruyama for the reverse-time SDE with a diffusion coefficient of one's choice.

    d x = (v - w/2 score) d t + sqrt(w) d W,   score = -eps / sigma,   t falling from 1 to 0

has the same marginals for every w(t) >= 0; w = 0 is the probability-flow ODE. The last step draws no noise.

SiT's code has w / 2 by the name of its diffusion: its `sigma` and `constant` are diffusion_scale 2 here, its `SBDM` is
forward with scale 1. Its published samples take 250 steps of sigma, uniform from t=1 to 0.04 and from there to 0: the
grid uniform with last_step 0.04.

Source: Ma et al., "SiT", 2024, equation 6; Albergo et al., "Stochastic interpolants", 2023.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dit.errors import ConfigError
from dit.sampling.grid import Grid
from dit.sampling.solvers import EulerMaruyamaOptions
from dit.sampling.solvers.ode import velocity
from dit.sampling.solvers.step import Denoise, NoiseOfStep, Solver, Step


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """The reverse SDE with w = diffusion_scale times sigma_t, the forward process's squared coefficient, or 1."""

    options: EulerMaruyamaOptions

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`."""
        t, width = grid.t[k], grid.t[k + 1] - grid.t[k]
        w = self.squared_coefficient(grid, t)
        denoised = denoise(x, t)
        drift = velocity(denoised, grid.schedule, t) + (w / (2 * grid.sigma[k])).to(x) * denoised.eps
        x = x + width.to(x) * drift
        if k + 1 < grid.num_steps and w > 0:
            x = x + (w * width.abs()).sqrt().to(x) * noise(k)
        return Step(x, denoised)

    def squared_coefficient(self, grid: Grid, t: Tensor) -> Tensor:
        """Return w at time t () float64.

        Raises:
            ConfigError: the forward process's coefficient is infinite, for there is no data at this time.
        """
        schedule, scale = grid.schedule, self.options.diffusion_scale
        if self.options.diffusion == "constant":
            return torch.full_like(t, scale)
        sigma = schedule.sigma(t)
        if self.options.diffusion == "sigma":
            return scale * sigma
        w = 2 * sigma * (schedule.d_sigma(t) - sigma * schedule.d_alpha(t) / schedule.alpha(t))
        if not w.isfinite():
            raise ConfigError(
                f"sampling.solver.diffusion: forward is infinite at t={float(t):g}, where alpha is 0; expected sigma "
                "or constant, or a grid that starts below t=1 (log_snr or karras with t_start 0.99)"
            )
        return scale * w
