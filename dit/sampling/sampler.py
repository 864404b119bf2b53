"""The sampling loop that previews, evaluation and users share.

B batch, C latent channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dit.diffusion.process import Denoised, Model, Process
from dit.diffusion.schedule import DiscreteSchedule
from dit.errors import ConfigError, DitError
from dit.layers.precision import tf32_products
from dit.rng import Purpose, normal
from dit.sampling.config import SamplingConfig
from dit.sampling.grid import Grid, create_grid
from dit.sampling.guidance import Guidance
from dit.sampling.network import GUIDANCE_INPUTS, check_guidance, condition_names, null_class_of
from dit.sampling.routed import RoutedGuide
from dit.sampling.solvers.step import NoiseOfStep, Solver, create_solver

Callback = Callable[[int, float, Tensor, Tensor], None]
"""callback(k, t_k, x (B, C, H, W) at t_k, predicted x_0 (B, C, H, W)), called after each step."""


@dataclass(frozen=True)
class Sampled:
    """Samples and what they cost."""

    latents: Tensor
    """(B, C, H, W) float32, or float64 where the start noise was."""
    num_calls: int
    """Network calls per sample; a guided call counts as two."""


@torch.no_grad()
def sample(
    model: Model,
    process: Process,
    y: Tensor,
    shape: Sequence[int],
    *,
    sampling: SamplingConfig,
    seed: int = 0,
    positions: Sequence[int] | None = None,
    noise: Tensor | None = None,
    step_noise: Tensor | None = None,
    weaker: Model | None = None,
    callback: Callback | None = None,
) -> Sampled:
    """Draw latents from noise.

    Args:
        model: the network, by the contract model(x_t, t, y); what it can do besides is in `dit.sampling.network`.
        process: the process that it was trained with.
        y: (B,) int64 labels; the samples are made on its device.
        shape: (C, H, W) of one latent.
        sampling: solver, steps, grid and guidance.
        seed: with the position it decides a sample's noise.
        positions: B global sample positions, by default 0..B-1.
        noise: (B, C, H, W) start noise in place of the seed's, of the schedule's deviation; a float64 one makes the
            whole state float64.
        step_noise: (N, B, C, H, W) noise of the N steps in the order of use, in place of the seed's.
        weaker: a second network of the same process for autoguidance, in place of the null class.
        callback: sees each step's state and predicted data.

    Raises:
        ConfigError: the sampling section does not fit the process or the network.
        DitError: the network returned values that are not finite.
    """
    positions = range(len(y)) if positions is None else positions
    assert len(positions) == len(y), (len(positions), len(y))

    def noise_of_step(k: int) -> Tensor:
        drawn = normal(seed, Purpose.STEP_NOISE, positions, shape, step=k) if step_noise is None else step_noise[k]
        return drawn.to(x)

    grid = create_grid(process, sampling)
    x = normal(seed, Purpose.START_NOISE, positions, shape) if noise is None else noise
    x = x.to(y.device, torch.promote_types(x.dtype, torch.float32))
    if noise is None and grid.t[0] < 1:
        # A grid that starts below t=1 starts where data of unit variance would be.
        x = (grid.alpha[0] ** 2 + grid.sigma[0] ** 2).sqrt().to(x) * x
    elif noise is None:
        x = grid.schedule.start_deviation * x
    solver = create_solver(sampling.solver)
    guidance = guidance_of(model, sampling, grid, shape[0], weaker, seed=seed, positions=positions)
    ends = dict(zip(grid.t.tolist(), grid.t[1:].tolist(), strict=False)) if solver.spans_steps else {}
    denoiser = prepared_denoiser(guidance, process, y, solver.call_times(grid), ends)
    with tf32_products(x.device):
        x = integrate(solver, grid, denoiser, x, noise_of_step, callback)
    return Sampled(x, denoiser.num_calls)


def integrate(
    solver: Solver, grid: Grid, denoise: "Denoiser", x: Tensor, noise: NoiseOfStep, callback: Callback | None = None
) -> Tensor:
    """Take a state x (B, C, H, W) at grid.t[0] to grid.t[-1] and return it.

    Raises:
        DitError: the network returned values that are not finite.
    """
    memory = None
    for k in range(grid.num_steps):
        step = solver(x, k, grid, denoise, noise, memory)
        if callback is not None:
            callback(k, float(grid.t[k]), x, step.denoised.x_0)
        x, memory = step.x, step.memory
    if not x.isfinite().all():
        raise DitError(
            "sampling: the network returned values that are not finite; "
            "guidance is too large, or its weights are damaged"
        )
    return x


class Denoiser:
    """Calls the guided network at one time for the whole batch and reads its output; counts the calls per sample.

    A call at a time in `ends` stands for the step from there to that end.
    """

    def __init__(
        self, guidance: Guidance, process: Process, y: Tensor, ends: Mapping[float, float] | None = None
    ) -> None:
        self.guidance, self.process, self.y, self.ends = guidance, process, y, ends or {}
        model = guidance.model
        parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        self.dtype = None if parameter is None else parameter.dtype
        self.num_calls = 0

    def __call__(self, x_t: Tensor, t: Tensor, guided_at: float | None = None) -> Denoised:
        """Return the data and noise that the network sees in x_t (B, C, H, W) at time t () float64.

        Guidance is that of the time `guided_at` where there is one, else of t.
        """
        t = t.cpu().double()
        model_time = self.process.model_time(t).to(x_t.device).expand(len(x_t))
        conditions = self.process.conditions(t, ends_of(t, self.ends))
        model_input = self.process.model_input(x_t, t).to(self.dtype or x_t.dtype)
        output, num_calls = self.guidance(model_input, float(t), model_time, self.y, conditions, guided_at)
        self.num_calls += num_calls
        return self.process.denoise(output.to(x_t.dtype), x_t, t)


def ends_of(times: Tensor, ends: Mapping[float, float]) -> Tensor:
    """Return the ends of the steps that calls at these times (N,) or () stand for, or the times themselves."""
    found = [ends.get(t, t) for t in times.flatten().tolist()]
    return torch.tensor(found, dtype=torch.float64).view(times.shape)


def prepared_denoiser(
    guidance: Guidance, process: Process, y: Tensor, times: Tensor, ends: Mapping[float, float] | None = None
) -> Denoiser:
    """Return a denoiser whose network computed once what depends on times (N,) and labels alone; without gradients."""
    conditions = process.conditions(times, ends_of(times, ends or {}))
    guidance = guidance.prepare(times, process.model_time(times).to(y.device), y, conditions)
    return Denoiser(guidance, process, y, ends)


def guidance_of(
    model: Model,
    sampling: SamplingConfig,
    grid: Grid,
    num_channels: int,
    weaker: Model | None = None,
    *,
    seed: int = 0,
    positions: Sequence[int] | None = None,
) -> Guidance:
    """Return the guided network that a sampling section asks for.

    Args:
        model: the network.
        sampling: scale, channels, interval and schedule.
        grid: its times turn an interval of steps into one of times.
        num_channels: C; at most so many channels are guided.
        weaker: a second network for autoguidance.
        seed: with the position it decides the tokens of a routed guide.
        positions: B global sample positions; None: 0..B-1.

    Raises:
        ConfigError: guidance without a null class, or of a network that was trained with its guidance or can't route.
    """
    check_guidance(model, sampling)
    if sampling.guidance_routing is not None:
        if weaker is not None:
            raise ConfigError("sampling.guidance_routing: expected null beside a guide, found both")
        weaker = RoutedGuide(model, sampling.guidance_routing, seed=seed, positions=positions)
    return guided_network(model, sampling, grid, num_channels, weaker)


def guided_network(
    model: Model, sampling: SamplingConfig, grid: Grid, num_channels: int, weaker: Model | None = None
) -> Guidance:
    """Return what `guidance_of` does, for guidance that was checked, by a weaker network where there is one."""
    if sampling.guidance_steps is not None:
        first, last = sampling.guidance_steps
        interval = [float(grid.t[last]), float(grid.t[first])]
        sampling = sampling.model_copy(update={"guidance_interval": interval})
    channels = num_channels if sampling.guidance_channels == "all" else min(sampling.guidance_channels, num_channels)
    if names := condition_names(model):
        if weaker is not None:
            raise ConfigError("guide: expected none, for this network was trained with its guidance")
        return _guidance_as_input(model, names, sampling, channels)
    # A discrete process's first step, k = 0 at t = 1 / N, is its last of a sampling.
    last_time = grid.schedule.first_time if isinstance(grid.schedule, DiscreteSchedule) else 0.0
    if weaker is not None:
        return Guidance(model, weaker, None, sampling, channels, last_time)
    null_class = null_class_of(model)
    if null_class == 0:
        # Without classes both branches are the null class, so any scale returns the same.
        sampling = sampling.model_copy(update={"guidance": 1.0})
    if sampling.guidance != 1 and null_class is None:
        raise ConfigError("sampling.guidance: expected 1, for the model has no null class (class_dropout_prob is 0)")
    return Guidance(model, model, null_class, sampling, channels, last_time)


def _guidance_as_input(model: Model, names: tuple[str, ...], sampling: SamplingConfig, num_channels: int) -> Guidance:
    """Return a network that was trained with guidance in it: what it lets one choose is told to it."""
    low, high = sampling.guidance_interval or (0.0, 1.0)
    told = dict(zip(GUIDANCE_INPUTS, (sampling.guidance, low, high), strict=True))
    unguided = sampling.model_copy(update={"guidance": 1.0, "guidance_interval": None})
    return Guidance(
        model, model, None, unguided, num_channels, told={name: told[name] for name in names if name in told}
    )
