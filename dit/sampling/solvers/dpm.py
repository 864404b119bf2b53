"""DPM-Solver++(2M): exponential integration in half the log-SNR, l = log(alpha / sigma), of the predicted data.

With h = l_{k+1} - l_k and D = x_0 + (h / 2 h_before) (x_0 - x_0 of the step before):

    ODE: x_{k+1} = (sigma_{k+1} / sigma_k) x_k + alpha_{k+1} (1 - e^-h) D
    SDE: x_{k+1} = (sigma_{k+1} / sigma_k) e^-h x_k + alpha_{k+1} (1 - e^-2h) D + sigma_{k+1} sqrt(1 - e^-2h) z

The first step and a last one to sigma = 0 are of first order (D = x_0). Infinite h at either end is exact.

Source: Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022, algorithm 2
and, for the SDE, equation 19.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dit.sampling.grid import Grid
from dit.sampling.solvers import SolverOptions
from dit.sampling.solvers.step import Denoise, NoiseOfStep, Solver, Step


@dataclass(frozen=True)
class Dpmpp2M(Solver):
    """DPM-Solver++(2M) of the ODE."""

    options: SolverOptions
    stochastic: ClassVar[bool] = False

    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """See `dit.sampling.solvers.step.Solver`; the memory is the data predicted at the step before."""
        denoised = denoise(x, grid.t[k])
        half = grid.half_log_snr
        h = half[k + 1] - half[k]
        data = denoised.x_0
        if memory is not None and h.isfinite():
            data = data + (h / (2 * (half[k] - half[k - 1]))).to(x) * (data - memory)
        ratio = grid.sigma[k + 1] / grid.sigma[k]
        if not self.stochastic:
            x = ratio.to(x) * x - (grid.alpha[k + 1] * torch.expm1(-h)).to(x) * data
            return Step(x, denoised, denoised.x_0)
        share = -torch.expm1(-2 * h)
        x = (ratio * (-h).exp()).to(x) * x + (grid.alpha[k + 1] * share).to(x) * data
        if grid.sigma[k + 1] > 0:
            x = x + (grid.sigma[k + 1] * share.sqrt()).to(x) * noise(k)
        return Step(x, denoised, denoised.x_0)


class Dpmpp2MSde(Dpmpp2M):
    """DPM-Solver++(2M) of the SDE, which adds noise."""

    stochastic = True
