"""The `sampling` section of recipes and exported folders: how samples are drawn unless the user says otherwise."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dit.models.config import Routing
from dit.sampling.solvers import HeunOptions, SolverOptions, Tolerance, sections
from dit.schema import BareList, OneOf, Section
from dit.validation import set_field

Time = Annotated[float, Field(ge=0, le=1)]
TWO = Field(min_length=2, max_length=2)


class GridOptions(Section):
    """What a grid can be told; the base of all, and itself that of the grids without options."""

    name: str
    """Name of the grid."""


class UniformGrid(GridOptions):
    """Options of uniform."""

    last_step: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Width of the last step of the grid uniform; left out: that of the others. Published SDE samples of SiT: 0.04."""


class LogSnrGrid(GridOptions):
    """Options of log_snr."""

    t_start: Annotated[float, Field(gt=0, le=1)] | None = None
    """First time of the grids log_snr and karras; left out: 1, or 0.999 where there is no data at t=1."""
    t_end: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Last time before 0 of the grids log_snr and karras."""


class KarrasGrid(LogSnrGrid):
    """Options of karras."""

    rho: Annotated[float, Field(gt=0)] = 7.0
    """Exponent of the grid karras."""


class ShiftedGrid(GridOptions):
    """Options of shifted."""

    shift: Annotated[float, Field(gt=0)] = 3.0
    """Shift of the grid shifted towards noise; larger images need more."""
    t_end: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Where the grid shifted ends, before the shift; above 0 the last noise stays in, as in published RAE samples."""


class ListGrid(GridOptions):
    """Options of list."""

    times: Annotated[list[Time], Field(min_length=1)]
    """The times of the grid list, descending, without the final 0."""

    @model_validator(mode="after")
    def _descends(self) -> Self:
        if self.times[-1] <= 0 or self.times != sorted(set(self.times), reverse=True):
            raise ValueError(f"times: expected descending times above 0, found {self.times}")
        return self


GRIDS: dict[str, type[GridOptions]] = {
    "auto": GridOptions,
    "uniform": UniformGrid,
    "respaced": GridOptions,
    "respaced_ddim": GridOptions,
    "log_snr": LogSnrGrid,
    "karras": KarrasGrid,
    "quadratic": GridOptions,
    "shifted": ShiftedGrid,
    "list": ListGrid,
}
"""Name -> section of the grid's options; `dit.sampling.grid` makes the times."""


class SamplingConfig(Section):
    """How samples are drawn."""

    solver: Annotated[SolverOptions, OneOf(sections)] = HeunOptions(name="heun")
    """Solver; heun and midpoint call the network twice a step, dopri5 as often as its tolerance needs, others once."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 25
    """Number of solver steps."""
    grid: Annotated[GridOptions, OneOf(lambda: GRIDS)] = GridOptions(name="auto")
    """Times of the steps; auto: uniform for flow, respaced for gaussian, respaced_ddim for gaussian with ddim."""
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Scale w of guidance, classifier-free unless told otherwise; 1 is off."""
    guidance_channels: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    """How many leading latent channels are guided; published DiT and SiT samples guide the first 3."""
    guidance_interval: Annotated[list[Time], TWO, BareList] | None = None
    """[low, high] times between which guidance acts; outside, the unconditional network is not called."""
    guidance_steps: Annotated[list[Annotated[int, Field(ge=0)]], TWO, BareList] | None = None
    """[first, last] solver steps, counted from 0, at which guidance acts, in place of an interval of times."""
    guidance_schedule: Literal["constant", "linear", "power_cosine"] = "constant"
    """Course of the scale from 1 at the first step to w at the last."""
    guidance_power: Annotated[float, Field(gt=0)] = 4.0
    """Exponent of the guidance schedule power_cosine; larger acts later."""
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share by which the guided prediction's deviation is brought back to the conditional one's."""
    guidance_routing: Routing | None = None
    """The network in which tokens skip blocks, {leave_after: ..., rejoin_after: ..., ratio: ...}, guides in place of
    the null class; for networks that were trained by objective.routing; null: the null class guides."""
    guidance_calls: Literal["one", "two"] = "one"
    """Whether both branches go through the network as one batch, or one after the other in half the memory."""
    cache: Literal["off", "static", "taylor", "encoder"] = "off"
    """Step caching: calls between computed ones reuse (static) or extrapolate (taylor) the blocks' work, or that of the
    encoder alone, in networks that have one."""
    cache_interval: Annotated[int, Field(ge=2)] = 2
    """With a cache, every how many calls the blocks are computed."""
    preview_decoder: str | None = None
    """Autoencoder whose small decoder draws previews and trajectories, such as madebyollin/taesd for Stable Diffusion's
    latents; a folder or a Hub id; null: the autoencoder itself."""

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if isinstance(self.grid, ListGrid) and len(self.grid.times) != self.steps:
            raise ValueError(f"grid.times: expected {self.steps} (= steps) times, found {len(self.grid.times)}")
        _refuse_unused(self, NEEDS)
        if self.guidance_steps is not None and not self.guidance_steps[0] <= self.guidance_steps[1] < self.steps:
            raise ValueError(f"guidance_steps: expected [first, last] below {self.steps}, found {self.guidance_steps}")
        if self.guidance_steps is not None and self.guidance_interval is not None:
            raise ValueError("guidance_steps: expected either steps or guidance_interval, found both")
        if self.guidance_interval is not None and self.guidance_interval[0] >= self.guidance_interval[1]:
            raise ValueError(f"guidance_interval: expected [low, high], found {self.guidance_interval}")
        return self


NEEDS = {
    "guidance_power": ("guidance_schedule", ("power_cosine",)),
    "cache_interval": ("cache", ("static", "taylor", "encoder")),
}
"""Field -> the field that decides whether it is used, and the values of that one with which it is."""
_FLAT = (
    *("eta", "variance", "diffusion", "diffusion_scale", "tolerance"),
    *("times", "t_start", "t_end", "rho", "shift"),
)


def _refuse_unused(section: Section, needs: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
    for field, (choice, users) in needs.items():
        chosen = getattr(section, choice)
        if chosen not in users and getattr(section, field) != type(section).model_fields[field].default:
            raise ValueError(f"{field}: expected only with {choice} {' or '.join(users)}, found {choice} {chosen}")


def changed(sampling: SamplingConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section's values with some replaced, not yet validated.

    Args:
        sampling: the section.
        changes: field -> value, also within a choice, `solver.eta`. Another solver or grid brings its own options.
    """
    values = sampling.model_dump(mode="json")
    for key in sorted(changes, key=lambda key: key.count(".")):  # a choice before its options
        if key not in ("solver", "grid") or changes[key] != values[key]["name"]:
            set_field(values, key, changes[key], section=SamplingConfig)
    for field, (choice, users) in NEEDS.items():
        if field not in changes and values[choice] not in users:
            del values[field]
    return values


def is_first_format(fields: Mapping[str, Any]) -> bool:
    """Tell whether a run of the first format wrote these fields of the section: it wrote every one out."""
    return all(field in fields for field in _FLAT)


def from_first_format(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section, not yet validated, that stands for one of the first format.

    There the options of all solvers and grids stood beside the name of one; what that one does not use is dropped.
    """
    values = {field: value for field, value in fields.items() if field not in _FLAT}
    for choice, options in (("solver", sections()), ("grid", GRIDS)):
        name = values.get(choice, SamplingConfig.model_fields[choice].default.name)
        if isinstance(name, str) and name in options:
            used = [field for field in _FLAT if field in options[name].model_fields and field in fields]
            values[choice] = {"name": name} | {field: fields[field] for field in used}
    for field, (choice, users) in NEEDS.items():
        if values.get(choice) not in users:
            values.pop(field, None)
    return values


Rounding = Literal["nearest", "down"]


class Published(SamplingConfig):
    """How the samples of a published figure were made: the sampling section, and what else the figure depends on."""

    guide: str | None = None
    """Zoo name of the weaker model that guides in place of the null class."""
    labels: Literal["balanced", "drawn"] | None = None
    """How the labels were chosen: every class as often, or each at random; left out: not told."""
    rounding: Rounding = "nearest"
    """How pixels in [0, 255] became bytes."""
    vae: str | None = None
    """Autoencoder that decoded, where it is not that of the defaults."""

    @property
    def sampling(self) -> SamplingConfig:
        """The sampling section alone."""
        return SamplingConfig.model_validate(self.model_dump(include=set(SamplingConfig.model_fields)))


class LikelihoodConfig(Section):
    """How the likelihood of held-out latents is computed."""

    num: Annotated[int, Field(ge=2)] = 100
    """Number of held-out latents; the standard error falls with its root."""
    solver: Literal["heun", "dopri5"] = "heun"
    """Solver of the probability flow: heun on a fixed grid, or dopri5 with adaptive steps."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 128
    """Steps of heun, two network calls and two backward passes each."""
    tolerance: Tolerance = 1e-5
    """Relative and absolute tolerance of dopri5."""
    probes: Literal["rademacher", "gaussian"] = "rademacher"
    """Probes of the divergence: signs have less variance, normal numbers are FFJORD's."""
    num_probes: Annotated[int, Field(ge=1, le=1000)] = 1
    """Probes per latent, one backward pass each; two or more show how much of the error is theirs."""
    t_end: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Time of the data; left out: 0 where the flow has a velocity there, else the first step or 0.001."""
    t_start: Annotated[float, Field(gt=0, le=1)] | None = None
    """Time of the noise; left out: 1."""
    variance: Literal["auto", "learned", "lower", "upper"] = "auto"
    """Reverse variance of a Gaussian process's variational bound; auto: learned if the network has it, else upper."""

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        _refuse_unused(self, {"steps": ("solver", ("heun",)), "tolerance": ("solver", ("dopri5",))})
        return self
