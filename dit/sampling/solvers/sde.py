"""Euler-Maruyama for the reverse-time SDE with a diffusion coefficient of one's choice.

    d x = (v - w/2 score) d t + sqrt(w) d W,   score = -eps / sigma,   t falling from 1 to 0

has the same marginals for every w(t) >= 0; w = 0 is the probability-flow ODE. The last step draws no noise.

Source: Ma et al., "SiT", 2024, equation 6; Albergo et al., "Stochastic interpolants", 2023.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dit.errors import ConfigError
from dit.sampling.grid import Grid
from dit.sampling.solvers.ode import velocity
from dit.sampling.solvers.step import Denoise, NoiseOfStep, Step


@dataclass(frozen=True)
class EulerMaruyama:
    """The reverse SDE with w = scale times sigma_t, the forward process's squared coefficient, or 1."""

    diffusion: Literal["sigma", "forward", "constant"] = "sigma"
    scale: float = 1.0

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
        schedule = grid.schedule
        if self.diffusion == "constant":
            return torch.full_like(t, self.scale)
        sigma = schedule.sigma(t)
        if self.diffusion == "sigma":
            return self.scale * sigma
        w = 2 * sigma * (schedule.d_sigma(t) - sigma * schedule.d_alpha(t) / schedule.alpha(t))
        if not w.isfinite():
            raise ConfigError(
                f"sampling.diffusion: forward is infinite at t={float(t):g}, where alpha is 0; expected sigma or "
                "constant, or a grid that starts below t=1 (grid log_snr or karras, t_start 0.99)"
            )
        return self.scale * w
