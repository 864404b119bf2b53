"""From data back to the noise that makes it: the deterministic solvers, run from t=0 to t=1.

Going there and back again gives the data up to the solver's error, which shows how well noise and data determine each
other at this number of steps.

Source: Song et al., "Denoising diffusion implicit models", ICLR 2021, section 5.4.
"""

from typing import Any

import torch
from torch import Tensor

from dit.diffusion.process import Process
from dit.errors import ConfigError
from dit.sampling.config import SamplingConfig
from dit.sampling.grid import create_grid, grid_of_times
from dit.sampling.sampler import Callback, Sampled, guidance_of, integrate, prepared_denoiser
from dit.sampling.solvers.step import create_solver


@torch.no_grad()
def invert(
    model: Any,
    process: Process,
    y: Tensor,
    latents: Tensor,
    *,
    sampling: SamplingConfig,
    callback: Callback | None = None,
) -> Sampled:
    """Return the start noise from which `sample` makes the given latents.

    Args:
        model: the network, by the contract model(x_t, t, y).
        process: the process that it was trained with.
        y: (B,) int64 labels, on the device to compute on.
        latents: (B, C, H, W) normalised latents.
        sampling: a deterministic solver, its steps and its grid, which is gone through backwards. Where the network's
            output gives no velocity at t=0, the latents are taken to be the state at the grid's smallest time above 0.
        callback: sees each step's state and predicted data.

    Returns:
        (B, C, H, W) noise, and the network calls per sample.

    Raises:
        ConfigError: the solver draws noise, or needs more than one step's past.
        DitError: the network returned values that are not finite.
    """
    solver = create_solver(sampling.solver)
    if not solver.is_invertible:
        raise ConfigError(
            "sampling.solver: inversion needs a solver without noise and without memory, such as heun, or ddim with "
            f"eta 0; found {sampling.solver.name}"
        )
    forward = create_grid(process, sampling)
    times = forward.t if forward.has_velocity[-1] else forward.t[:-1]
    grid = grid_of_times(process.schedule, process.prediction, times.flip(0))
    guidance = guidance_of(model, sampling, forward, latents.shape[1])
    denoiser = prepared_denoiser(guidance, process, y, solver.call_times(grid))
    x = latents.to(y.device, torch.float32)
    return Sampled(integrate(solver, grid, denoiser, x, lambda _: x, callback), denoiser.num_calls)
