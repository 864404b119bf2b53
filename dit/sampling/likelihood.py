"""Likelihood of data under the probability flow of a network.

The flow d x / d t = v(x, t) carries the data at t_end to the noise at t_start, and along it densities change by

    log p_end(x_end) = log p_start(x_start) + integral of div v over t from t_end to t_start.

The divergence is estimated by Hutchinson's trace, z . (dv/dx) z with E[z z^T] = I; a sample keeps its probe z along the
whole path, so that the estimate stays unbiased. Times are kept where the network knows something:

- p_start is N(0, alpha^2 + sigma^2), what sampling starts from, also where alpha at t=1 is not quite 0.
- t_end is 0 where v is finite there (velocity and v on the straight and the trigonometric path). Elsewhere sigma'
  is infinite or the output says nothing of the noise at t=0, and the flow is followed to a small t_end: then the
  figure is the exact likelihood of a model that stops there and returns x / alpha, a density smoothed by noise of
  deviation sigma / alpha. It is finite even for data on a surface, and smaller t_end give other figures: state it.

B batch, C latent channels, K probes.

Source: Chen et al., "Neural ordinary differential equations", NeurIPS 2018, theorem 1; Grathwohl et al., "FFJORD",
ICLR 2019, equation 8; Song et al., "Score-based generative modeling through SDEs", ICLR 2021, section 4.3.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dit.diffusion.process import Process
from dit.errors import ConfigError, DitError
from dit.rng import Purpose, normal
from dit.sampling.config import LikelihoodConfig, SamplingConfig
from dit.sampling.grid import Grid, grid_of_times
from dit.sampling.sampler import Denoiser, guidance_of
from dit.sampling.solvers.adaptive import integrate_adaptively
from dit.sampling.solvers.ode import velocity
from dit.sampling.solvers.step import Denoise

Progress = Callable[[float], None]
"""progress(share in [0, 1] of the batch's work that is done)."""


@dataclass(frozen=True)
class OdeNll:
    """Negative log-likelihoods of a batch."""

    nats_per_dim: Tensor
    """(K, B) float64, one estimate by each probe."""
    num_calls: int
    """Network calls per sample."""
    num_backward: int
    """Backward passes per sample: one at each call for each probe."""
    t_start: float
    """Time at which the flow is noise."""
    t_end: float
    """Time at which the flow is data; above 0 the figure is of data smoothed by noise sigma / alpha."""
    smoothing: float
    """sigma / alpha at t_end."""


def ode_nll(
    model: Any,
    process: Process,
    x_0: Tensor,
    y: Tensor,
    *,
    likelihood: LikelihoodConfig,
    seed: int = 0,
    positions: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> OdeNll:
    """Compute the negative log-likelihood of latents given their labels, without guidance.

    Args:
        model: the network, by the contract model(x_t, t, y).
        process: the process that it was trained with.
        x_0: (B, C, H, W) normalised latents, float32 or float64.
        y: (B,) int64 labels, on the device to compute on.
        likelihood: solver, steps, probes and the ends of the path.
        seed: of the probes.
        positions: B global sample positions, by default 0..B-1; with the seed they decide the probes.
        progress: is told how far the path has been followed.

    Returns:
        Estimates in nats per dimension of the latents, log2(e) times as many bits.

    Raises:
        ConfigError: the ends of the path do not fit the process.
        DitError: the network returned values that are not finite, or dopri5 can't keep its tolerance.
    """
    positions = range(len(y)) if positions is None else positions
    grid = nll_grid(process, likelihood)
    x_0 = x_0.to(y.device, torch.promote_types(x_0.dtype, torch.float32))
    probes = draw_probes(likelihood, seed, positions, tuple(x_0.shape[1:])).to(x_0)
    with torch.no_grad():
        flow = Flow(Denoiser(guidance_of(model, SamplingConfig(), grid, x_0.shape[1]), process, y), grid, probes)
        follow = _by_dopri5 if likelihood.solver == "dopri5" else _by_heun
        x, integral = follow(flow, grid.alpha[0].to(x_0) * x_0, likelihood, progress or (lambda share: None))
    if progress is not None:
        progress(1.0)
    num_dims = x_0[0].numel()
    variance = float(grid.alpha[-1] ** 2 + grid.sigma[-1] ** 2)
    squares = x.double().square().flatten(1).sum(1)  # (B,)
    log_prior = -0.5 * (squares / variance + num_dims * math.log(2 * math.pi * variance))
    log_density = log_prior + integral + num_dims * float(grid.alpha[0].log())  # (K, B)
    if not log_density.isfinite().all():
        raise DitError("likelihood: the network returned values that are not finite; its weights are damaged")
    return OdeNll(
        nats_per_dim=(-log_density / num_dims).cpu(),
        num_calls=flow.num_calls,
        num_backward=flow.num_calls * len(probes),
        t_start=float(grid.t[-1]),
        t_end=float(grid.t[0]),
        smoothing=float(grid.sigma[0] / grid.alpha[0]),
    )


def nll_grid(process: Process, likelihood: LikelihoodConfig) -> Grid:
    """Return the ascending times t_end .. t_start that Heun's method follows; their density falls with t.

    t = t_end + (t_start - t_end) u^2 for uniform u: most of a likelihood is decided where there is little noise.

    Raises:
        ConfigError: the flow has no velocity at one of the ends, or they are in the wrong order.
    """
    t_end, t_start = likelihood.t_end, likelihood.t_start
    if t_end is None:
        t_end = 0.0 if _has_velocity(process, 0.0) else process.schedule.first_time
    if t_start is None:
        t_start = 1.0 if _has_velocity(process, 1.0) else 0.999
    if t_end >= t_start:
        raise ConfigError(f"likelihood.t_end: expected less than t_start {t_start:g}, found {t_end:g}")
    for name, t in (("t_end", t_end), ("t_start", t_start)):
        if not _has_velocity(process, t):
            raise ConfigError(f"likelihood.{name}: expected a time at which the flow has a velocity, found {t:g}")
    u = torch.linspace(0, 1, likelihood.steps + 1, dtype=torch.float64)
    times = t_end + (t_start - t_end) * u**2
    times[-1] = t_start
    return grid_of_times(process.schedule, process.prediction, times)


def _has_velocity(process: Process, t: float) -> bool:
    times = torch.tensor([t], dtype=torch.float64)
    return bool(grid_of_times(process.schedule, process.prediction, times).has_velocity[0])


def draw_probes(likelihood: LikelihoodConfig, seed: int, positions: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Draw the probes of B samples, independent with mean 0 and variance 1: (K, B, *shape) float32."""
    draws = [normal(seed, Purpose.PROBE, positions, shape, step=k) for k in range(likelihood.num_probes)]
    probes = torch.stack(draws)
    return probes if likelihood.probes == "gaussian" else torch.where(probes < 0, -1.0, 1.0)


@dataclass
class Flow:
    """The velocity of the flow and its divergence."""

    denoise: Denoise
    grid: Grid
    probes: Tensor
    """(K, B, C, H, W)."""
    num_calls: int = 0
    """How often the network was called."""

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return v (B, C, H, W) and an estimate of its divergence by each probe (K, B) float64, at time t ()."""
        self.num_calls += 1
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            v = velocity(self.denoise(x, t), self.grid.schedule, t)
            last = len(self.probes) - 1
            traces = [
                (torch.autograd.grad(v, x, probe, retain_graph=k < last)[0] * probe).double().flatten(1).sum(1)
                for k, probe in enumerate(self.probes)
            ]
        return v.detach(), torch.stack(traces)


def _by_heun(flow: Flow, x: Tensor, likelihood: LikelihoodConfig, progress: Progress) -> tuple[Tensor, Tensor]:
    """Return the state (B, C, H, W) at the grid's last time and the integral of the divergence (K, B)."""
    times = flow.grid.t
    integral = torch.zeros(flow.probes.shape[:2], dtype=torch.float64, device=x.device)
    for k in range(flow.grid.num_steps):
        width = times[k + 1] - times[k]
        v, divergence = flow(x, times[k])
        v_end, divergence_end = flow(x + width.to(x) * v, times[k + 1])
        x = x + width.to(x) * (v + v_end) / 2
        integral = integral + width.to(integral) * (divergence + divergence_end) / 2
        progress((k + 1) / flow.grid.num_steps)
    return x, integral


def _by_dopri5(flow: Flow, x: Tensor, likelihood: LikelihoodConfig, progress: Progress) -> tuple[Tensor, Tensor]:
    """Return what `_by_heun` does, with steps chosen for the batch by the tolerance."""
    t_end, t_start = flow.grid.t[0], flow.grid.t[-1]
    num_dims = x[0].numel()

    def slope(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        progress(float((t - t_end) / (t_start - t_end)))
        v, divergence = flow(state[0], t)
        return v, divergence.to(v) / num_dims

    # Per dimension, so that the tolerance means the same for the state and for the result.
    start = (x, torch.zeros(flow.probes.shape[:2], dtype=x.dtype, device=x.device))
    x, integral = integrate_adaptively(slope, start, t_end, t_start, tolerance=likelihood.tolerance)
    return x, integral.double() * num_dims
