"""What a solver is: a pure function from the state at t_k to the state at t_{k+1}.

The state is float32, coefficients are computed in float64 and rounded once.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from torch import Tensor

from dit.diffusion.process import Denoised
from dit.sampling.grid import Grid
from dit.sampling.solvers import SOLVERS, SolverOptions

Denoise = Callable[..., Denoised]
"""denoise(x_t (B, C, H, W), t () float64) -> the guided network's data and noise at x_t; `guided_at=t` for the
guidance of another time, a float."""

NoiseOfStep = Callable[[int], Tensor]
"""noise(k) -> standard normal noise of step k, (B, C, H, W)."""


@dataclass(frozen=True)
class Step:
    """The outcome of one step."""

    x: Tensor
    """(B, C, H, W) state at t_{k+1}."""
    denoised: Denoised
    """What the network said at t_k."""
    memory: Any = None
    """What a multi-step solver wants handed back at the next step."""


class Solver(Protocol):
    """A solver of the reverse process; one's own is a subclass, made from its options."""

    @property
    def is_invertible(self) -> bool:
        """Whether it goes from data to noise as well: each step without noise and without the step before."""
        return False

    def call_times(self, grid: Grid) -> Tensor:
        """Return the times at which it calls the network, as far as they are known beforehand: (N,) float64."""
        return grid.t

    @property
    def spans_steps(self) -> bool:
        """Whether its call at t_k stands for the whole step, so that an average velocity up to t_{k+1} serves it."""
        return False

    @abstractmethod
    def __call__(self, x: Tensor, k: int, grid: Grid, denoise: Denoise, noise: NoiseOfStep, memory: Any) -> Step:
        """Step from t_k to t_{k+1}.

        Args:
            x: (B, C, H, W) float32 state at grid.t[k].
            k: index of the step, 0 to grid.num_steps - 1.
            grid: times, alpha and sigma.
            denoise: the network.
            noise: draws a step's standard normal noise, (B, C, H, W).
            memory: what the step before returned; None at the first.
        """
        ...


def create_solver(options: SolverOptions) -> Solver:
    """Return the solver that a section of options names."""
    factory = SOLVERS[options.name].factory
    if isinstance(factory, str):
        module, _, name = factory.partition(":")
        factory = getattr(import_module(f"dit.sampling.solvers.{module}"), name)
    return factory(options)
