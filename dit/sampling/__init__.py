"""Sampling: a time grid, a solver, guidance, and the one loop that previews, evaluation and users share."""

from typing import TYPE_CHECKING

from dit.lazy import lazy

if TYPE_CHECKING:
    from dit.sampling.config import SamplingConfig
    from dit.sampling.sampler import Sampled, sample
    from dit.sampling.solvers import register_solver

__all__ = ["Sampled", "SamplingConfig", "register_solver", "sample"]
_HOMES = {
    "Sampled": "dit.sampling.sampler",
    "SamplingConfig": "dit.sampling.config",
    "register_solver": "dit.sampling.solvers",
    "sample": "dit.sampling.sampler",
}
__getattr__, __dir__ = lazy(__name__, _HOMES)
