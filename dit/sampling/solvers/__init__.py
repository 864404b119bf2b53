"""The table of the solvers, and what each of them can be told. Free of torch.

A solver is a class in a file of this folder, the section of its options and a line in `SOLVERS`; one from outside is
registered by `register_solver`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dit.errors import ConfigError
from dit.schema import Section

Tolerance = Annotated[float, Field(gt=0, lt=1)]


class SolverOptions(Section):
    """What a solver can be told; the base of all, and itself that of the solvers without options."""

    name: str
    """Name of the solver."""
    discrete_grid: ClassVar[Literal["respaced", "respaced_ddim"]] = "respaced"
    """What the grid auto is for a process of discrete steps."""


class DdpmOptions(SolverOptions):
    """Options of ddpm."""

    variance: Literal["auto", "learned", "lower", "upper"] = "auto"
    """Reverse variance of ddpm; auto: learned where the network has it, else lower (the posterior's)."""


class DdimOptions(SolverOptions):
    """Options of ddim."""

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the posterior's noise that ddim draws; 0 is deterministic."""
    discrete_grid = "respaced_ddim"


class HeunOptions(SolverOptions):
    """Options of heun."""

    guided_by: Literal["call", "step"] = "call"
    """Whose time decides on guidance at the second call of a heun step: its own, or that of the step's start."""
    ends_with: Literal["heun", "data"] = "heun"
    """The step of heun to t=0; data: one call and straight to the data that it predicts, as REPA's and diffusers'."""


class EulerMaruyamaOptions(SolverOptions):
    """Options of euler_maruyama."""

    diffusion: Literal["sigma", "forward", "constant"] = "sigma"
    """Squared diffusion coefficient w of euler_maruyama: sigma_t, the forward process's, or 1."""
    diffusion_scale: Annotated[float, Field(ge=0)] = 1.0
    """Factor of w; 2 for what SiT calls sigma or constant, for it names w / 2; 0 makes it Euler's method."""


class Dopri5Options(SolverOptions):
    """Options of dopri5."""

    tolerance: Tolerance = 1e-5
    """Relative and absolute tolerance of dopri5."""


@dataclass(frozen=True)
class Entry:
    """A solver by name."""

    options: type[SolverOptions]
    """Section of its options."""
    factory: str | Callable[[Any], Any]
    """Makes it from its options; "file:class" of this folder is imported when it is needed, for it needs torch."""


SOLVERS: dict[str, Entry] = {
    "ddpm": Entry(DdpmOptions, "ancestral:Ancestral"),
    "ddim": Entry(DdimOptions, "ancestral:Ddim"),
    "euler": Entry(SolverOptions, "ode:Euler"),
    "heun": Entry(HeunOptions, "ode:Heun"),
    "midpoint": Entry(SolverOptions, "ode:Midpoint"),
    "dpmpp_2m": Entry(SolverOptions, "dpm:Dpmpp2M"),
    "dpmpp_2m_sde": Entry(SolverOptions, "dpm:Dpmpp2MSde"),
    "unipc": Entry(SolverOptions, "unipc:UniPC"),
    "euler_maruyama": Entry(EulerMaruyamaOptions, "sde:EulerMaruyama"),
    "dopri5": Entry(Dopri5Options, "ode:Dopri5"),
}
"""Name -> solver, in the order of listings."""


def register_solver(name: str, options: type[SolverOptions] | None, factory: Callable[[Any], Any]) -> None:
    """Make a solver known by its name, to Python, to recipes and to the command line (`--plugin FILE`).

    Args:
        name: what `sampling.solver` calls it.
        options: section of its options, a subclass of `SolverOptions`; None where it has none.
        factory: makes the solver, see `dit.sampling.solvers.step.Solver`, from its options; often its class.

    Raises:
        ConfigError: the name is taken.
    """
    if name in SOLVERS:
        raise ConfigError(f"register_solver: expected a new name, found {name!r}, which is taken")
    SOLVERS[name] = Entry(options or SolverOptions, factory)


def sections() -> dict[str, type[SolverOptions]]:
    """Return the section of each solver's options, by name, with what was registered so far."""
    return {name: entry.options for name, entry in SOLVERS.items()}
