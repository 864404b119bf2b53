"""Time grids: the descending times t_0 > t_1 > ... > t_N = 0 between which a solver steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dit.diffusion.process import Process
from dit.diffusion.schedule import DiscreteSchedule, Schedule
from dit.errors import ConfigError
from dit.sampling.config import SamplingConfig


@dataclass(frozen=True)
class Grid:
    """Times and the schedule's values there, each (N + 1,) float64 on the CPU."""

    schedule: Schedule
    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def num_steps(self) -> int:
        """N, the number of solver steps."""
        return len(self.t) - 1


def grid_of_times(schedule: Schedule, times: Tensor) -> Grid:
    """Return the grid of times (N + 1,), which must descend."""
    times = times.double()
    assert (times.diff() < 0).all(), times
    return Grid(schedule, times, schedule.alpha(times), schedule.sigma(times))


def create_grid(process: Process, sampling: SamplingConfig) -> Grid:
    """Return the grid that the sampling section names, ending at t = 0.

    Raises:
        ConfigError: the process has no such grid, or none with so many steps.
    """
    schedule, name = process.schedule, sampling.grid
    discrete = isinstance(schedule, DiscreteSchedule)
    if name == "auto":
        name = ("respaced_ddim" if sampling.solver == "ddim" else "respaced") if discrete else "uniform"
    if name == "uniform":
        return grid_of_times(schedule, torch.linspace(1, 0, sampling.steps + 1, dtype=torch.float64))
    if not isinstance(schedule, DiscreteSchedule):
        raise ConfigError(f"sampling.grid: {name} needs a process of discrete steps; expected uniform")
    choose = respaced_ddim_steps if name == "respaced_ddim" else respaced_steps
    steps = torch.tensor(choose(schedule.num_steps, sampling.steps)).flip(0)
    times = torch.cat([schedule.time_of_step(steps), torch.zeros(1, dtype=torch.float64)])
    return grid_of_times(schedule, times)


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
