"""Time grids: the descending times t_0 > t_1 > ... > t_N = 0 between which a solver steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dit.diffusion.prediction import Prediction
from dit.diffusion.process import Process
from dit.diffusion.schedule import DiscreteSchedule, Schedule
from dit.diffusion.timesteps import shift_time
from dit.errors import ConfigError
from dit.sampling.config import KarrasGrid, ListGrid, LogSnrGrid, SamplingConfig, ShiftedGrid, UniformGrid


@dataclass(frozen=True)
class Grid:
    """Times, and the schedule's values there: each (N + 1,) on the CPU, float64 but for `has_velocity`."""

    schedule: Schedule
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    has_velocity: Tensor
    """Whether the network's output gives a finite velocity at t_k: not always where there is no noise."""

    @property
    def num_steps(self) -> int:
        """N, the number of solver steps."""
        return len(self.t) - 1

    @property
    def half_log_snr(self) -> Tensor:
        """log(alpha / sigma), (N + 1,) float64: infinite at the ends."""
        return self.alpha.log() - self.sigma.log()


def grid_of_times(schedule: Schedule, prediction: Prediction, times: Tensor) -> Grid:
    """Return the grid of times (N + 1,) float64: descending to sample, ascending to invert."""
    times = times.double()
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    a, b = prediction.coefficients(schedule, times)
    d = alpha * b - sigma * a
    has_velocity = d.isfinite() & (d != 0) & schedule.d_sigma(times).isfinite() & schedule.d_alpha(times).isfinite()
    if prediction.ends_in_data:
        has_velocity &= times > 0
    return Grid(schedule, times, alpha, sigma, has_velocity)


def create_grid(process: Process, sampling: SamplingConfig) -> Grid:
    """Return the grid that the sampling section names, ending at t = 0 unless it says otherwise.

    Raises:
        ConfigError: the process has no such grid, or none with so many steps.
    """
    times, end = _times(process, sampling), 0.0
    if isinstance(sampling.grid, ShiftedGrid):
        end = float(shift_time(torch.tensor(sampling.grid.t_end, dtype=torch.float64), sampling.grid.shift))
    return grid_of_times(process.schedule, process.prediction, torch.cat([times, times.new_full((1,), end)]))


def _times(process: Process, sampling: SamplingConfig) -> Tensor:
    """Return the N times before the last."""
    schedule, options, num = process.schedule, sampling.grid, sampling.steps
    name = options.name
    if name == "auto":
        name = sampling.solver.discrete_grid if isinstance(schedule, DiscreteSchedule) else "uniform"
    if name in ("respaced", "respaced_ddim"):
        return _respaced_times(schedule, name, num)
    if isinstance(options, ListGrid):
        return torch.tensor(options.times, dtype=torch.float64)
    if isinstance(options, LogSnrGrid):
        t_start = options.t_start or (1.0 if schedule.alpha(torch.ones((), dtype=torch.float64)) > 0 else 0.999)
        if t_start <= options.t_end:
            raise ConfigError(f"sampling.grid.t_start: expected more than t_end {options.t_end}, found {t_start}")
        ends = torch.tensor([t_start, options.t_end], dtype=torch.float64)
        if isinstance(options, KarrasGrid):
            return karras_times(schedule, ends, num, options.rho)
        return log_snr_times(schedule, ends, num)
    if isinstance(options, UniformGrid) and options.last_step is not None:
        return torch.linspace(1, options.last_step, num, dtype=torch.float64)
    end = options.t_end if isinstance(options, ShiftedGrid) else 0.0
    uniform = torch.linspace(1, end, num + 1, dtype=torch.float64)[:-1]
    if name == "quadratic":
        return uniform**2
    return shift_time(uniform, options.shift) if isinstance(options, ShiftedGrid) else uniform


def log_snr_times(schedule: Schedule, ends: Tensor, num: int) -> Tensor:
    """Return `num` times from ends[0] down to ends[1], equally spaced in log-SNR: (num,) float64.

    Source: Lu et al., "DPM-Solver", NeurIPS 2022, section 3.4.
    """
    log_snr = schedule.log_snr(ends)
    times = schedule.time_of_log_snr(torch.linspace(float(log_snr[0]), float(log_snr[1]), num, dtype=torch.float64))
    return _pinned(times, ends)


def karras_times(schedule: Schedule, ends: Tensor, num: int, rho: float) -> Tensor:
    """Return `num` times from ends[0] down to ends[1], whose sigma / alpha is equally spaced in its 1/rho-th power.

    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022, equation 5.
    """
    roots = (schedule.sigma(ends) / schedule.alpha(ends)) ** (1 / rho)
    ratio = torch.linspace(float(roots[0]), float(roots[1]), num, dtype=torch.float64) ** rho
    return _pinned(schedule.time_of_log_snr(-2 * ratio.log()), ends)


def _pinned(times: Tensor, ends: Tensor) -> Tensor:
    # Bisection finds the ends up to rounding; solvers compare with them exactly.
    times[0] = ends[0]
    if len(times) > 1:
        times[-1] = ends[1]
    return times


def _respaced_times(schedule: Schedule, name: str, num: int) -> Tensor:
    if not isinstance(schedule, DiscreteSchedule):
        raise ConfigError(f"sampling.grid: {name} needs a process of discrete steps; expected uniform or another")
    choose = respaced_ddim_steps if name == "respaced_ddim" else respaced_steps
    return schedule.time_of_step(torch.tensor(choose(schedule.num_steps, num)).flip(0))


def respaced_steps(num_steps: int, num_kept: int) -> list[int]:
    """Choose steps spread evenly over 0..num_steps-1, both ends included, in ascending order.

    The stride is accumulated in floating point and rounded half to even: published samples depend on it.

    Raises:
        ConfigError: more steps are asked for than there are.

    Source: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, section 4.
    """
    if num_kept > num_steps:
        raise ConfigError(f"sampling.steps: expected at most the process's {num_steps} steps, found {num_kept}")
    if num_kept == 1:
        return [0]
    stride, position, kept = (num_steps - 1) / (num_kept - 1), 0.0, []
    for _ in range(num_kept):
        kept.append(round(position))
        position += stride
    return kept


def respaced_ddim_steps(num_steps: int, num_kept: int) -> list[int]:
    """Choose every s-th step from 0 on, with the smallest integer stride s that keeps `num_kept` of them.

    Raises:
        ConfigError: no integer stride keeps so many.

    Source: Song et al., "Denoising diffusion implicit models", ICLR 2021, appendix D.2.
    """
    kept_by_stride = {stride: len(range(0, num_steps, stride)) for stride in range(1, num_steps)}
    for stride, kept in kept_by_stride.items():
        if kept == num_kept:
            return list(range(0, num_steps, stride))
    near = sorted(set(kept_by_stride.values()), key=lambda kept: abs(kept - num_kept))[:2]
    raise ConfigError(
        f"sampling.steps: no integer stride through {num_steps} steps keeps {num_kept}; "
        f"the nearest are {near[0]} and {near[1]}, or set sampling.grid to respaced"
    )
