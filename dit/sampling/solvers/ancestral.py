"""Ancestral sampling (DDPM): x_s is drawn from the posterior q(x_s | x_t, x_0) at the predicted x_0.

x_s = mean + [s > 0] sqrt(variance) z, with the posterior's variance (lower), the noising step's (upper) or a learned
interpolation of the two.

Source: Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020, algorithm 2; learned variance: Nichol &
Dhariwal, 2021, equation 15.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dit.diffusion.posterior import Posterior, learned_log_variance, posterior
from dit.errors import ConfigError
from dit.sampling.grid import Grid
from dit.sampling.solvers import DdimOptions, DdpmOptions
from dit.sampling.solvers.step import Denoise, NoiseOfStep, Solver, Step


def posterior_of_step(grid: Grid, k: int) -> Posterior:
    """Return the coefficients of q(x_{t_{k+1}} | x_{t_k}, x_0)."""
    return posterior(grid.alpha[k], grid.sigma[k], grid.alpha[k + 1], grid.sigma[k + 1])


@dataclass(frozen=True)
class Ancestral(Solver):
    """DDPM on any schedule and any grid."""

    options: DdpmOptions

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`."""
        denoised = denoise(x, grid.t[k])
        q = posterior_of_step(grid, k)
        mean = q.of_x_0.to(x) * denoised.x_0 + q.of_x_t.to(x) * x
        if grid.sigma[k + 1] == 0:
            return Step(mean, denoised)
        log_variance = self._log_variance(q, denoised.variance)
        return Step(mean + (0.5 * log_variance).exp().to(x) * noise(k), denoised)

    def _log_variance(self, q: Posterior, learned: Tensor | None) -> Tensor:
        if self.options.variance == "upper":
            return q.beta.log()
        if self.options.variance == "lower" or (self.options.variance == "auto" and learned is None):
            return q.variance.log()
        if learned is None:
            raise ConfigError(
                "sampling.solver.variance: learned needs a network with learn_sigma; expected lower or upper"
            )
        return learned_log_variance(learned, q.beta.log().to(learned), q.variance.log().to(learned))


@dataclass(frozen=True)
class Ddim(Solver):
    """DDIM: x_s = alpha_s x_0 + sqrt(sigma_s^2 - d^2) eps + d z, with d = eta times the posterior's deviation.

    Deterministic at eta 0; on the straight path of flow matching that is Euler's method.

    Source: Song et al., "Denoising diffusion implicit models", ICLR 2021, equations 12 and 16.
    """

    options: DdimOptions

    @property
    def is_invertible(self) -> bool:
        """Where it draws no noise."""
        return self.options.eta == 0

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`."""
        denoised = denoise(x, grid.t[k])
        # Without noise nothing is asked of the posterior, so that the step also goes from less to more noise.
        eta = self.options.eta
        variance = eta**2 * posterior_of_step(grid, k).variance if eta else torch.zeros(())
        kept = torch.sqrt((grid.sigma[k + 1] ** 2 - variance).clamp(min=0))
        x = grid.alpha[k + 1].to(x) * denoised.x_0 + kept.to(x) * denoised.eps
        if variance > 0:
            x = x + variance.sqrt().to(x) * noise(k)
        return Step(x, denoised)
