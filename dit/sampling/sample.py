"""The sampling loop that previews, evaluation and users share.

B batch, C latent channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dit.diffusion.process import Denoised, Process
from dit.errors import ConfigError, UserError
from dit.rng import Purpose, normal
from dit.sampling.config import SamplingConfig
from dit.sampling.grid import create_grid
from dit.sampling.guidance import guide
from dit.sampling.solvers.ancestral import Ancestral, Ddim
from dit.sampling.solvers.ode import euler, heun
from dit.sampling.solvers.step import Solver

Callback = Callable[[int, float, Tensor, Tensor], None]
"""callback(k, t_k, x (B, C, H, W) at t_k, predicted x_0 (B, C, H, W)), called after each step."""


@dataclass(frozen=True)
class Sampled:
    """Samples and what they cost."""

    latents: Tensor
    """(B, C, H, W) float32."""
    num_calls: int
    """Network calls per sample; a guided call counts as two."""


def create_solver(sampling: SamplingConfig) -> Solver:
    """Return the solver that the sampling section names, with its options."""
    solvers: dict[str, Solver] = {
        "ddpm": Ancestral(sampling.variance),
        "ddim": Ddim(sampling.eta),
        "euler": euler,
        "heun": heun,
    }
    return solvers[sampling.solver]


@torch.no_grad()
def sample(
    model: Any,
    process: Process,
    y: Tensor,
    shape: Sequence[int],
    *,
    sampling: SamplingConfig,
    seed: int = 0,
    positions: Sequence[int] | None = None,
    noise: Tensor | None = None,
    step_noise: Tensor | None = None,
    callback: Callback | None = None,
) -> Sampled:
    """Draw latents from noise.

    Args:
        model: the network, by the contract model(x_t, t, y); guidance reads its `null_class`.
        process: the process that it was trained with.
        y: (B,) int64 labels; the samples are made on its device.
        shape: (C, H, W) of one latent.
        sampling: solver, steps, grid and guidance.
        seed: with the position it decides a sample's noise.
        positions: B global sample positions, by default 0..B-1.
        noise: (B, C, H, W) start noise in place of the seed's.
        step_noise: (N, B, C, H, W) noise of the N steps in the order of use, in place of the seed's.
        callback: sees each step's state and predicted data.

    Raises:
        ConfigError: the sampling section does not fit the process or the network.
        UserError: the network returned values that are not finite.
    """
    positions = range(len(y)) if positions is None else positions
    assert len(positions) == len(y), (len(positions), len(y))
    grid = create_grid(process, sampling)
    solver = create_solver(sampling)
    denoise = _Denoiser(_guided(model, sampling, shape[0]), process, model, y)
    x = normal(seed, Purpose.START_NOISE, positions, shape) if noise is None else noise
    x = x.to(y.device, torch.float32)
    memory = None

    def noise_of_step(k: int) -> Tensor:
        drawn = normal(seed, Purpose.STEP_NOISE, positions, shape, step=k) if step_noise is None else step_noise[k]
        return drawn.to(y.device, torch.float32)

    for k in range(grid.num_steps):
        step = solver(x, k, grid, denoise, noise_of_step, memory)
        if callback is not None:
            callback(k, float(grid.t[k]), x, step.denoised.x_0)
        x, memory = step.x, step.memory
    if not x.isfinite().all():
        raise UserError("sampling: the network returned values that are not finite; its weights are damaged")
    return Sampled(x, denoise.num_calls * (1 if _is_unguided(model, sampling) else 2))


class _Denoiser:
    """Calls the network at one time for the whole batch and reads its output; counts the calls."""

    def __init__(self, guided: Any, process: Process, model: Any, y: Tensor) -> None:
        self.guided, self.process, self.y = guided, process, y
        parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        self.dtype = torch.float32 if parameter is None else parameter.dtype
        self.num_calls = 0

    def __call__(self, x_t: Tensor, t: Tensor) -> Denoised:
        self.num_calls += 1
        model_time = self.process.model_time(t).to(x_t.device).expand(len(x_t))
        output = self.guided(x_t.to(self.dtype), model_time, self.y)
        return self.process.denoise(output.to(x_t.dtype), x_t, t)


def _guided(model: Any, sampling: SamplingConfig, num_channels: int) -> Any:
    if _is_unguided(model, sampling):
        return model
    if model.null_class is None:
        raise ConfigError("sampling.guidance: expected 1, for the model has no null class (class_dropout_prob is 0)")
    channels = num_channels if sampling.guidance_channels == "all" else min(sampling.guidance_channels, num_channels)
    return guide(model, null_class=model.null_class, scale=sampling.guidance, num_channels=channels)


def _is_unguided(model: Any, sampling: SamplingConfig) -> bool:
    # Without classes both branches are the null class, so any scale returns the same.
    return sampling.guidance == 1 or getattr(model, "num_classes", None) == 0
