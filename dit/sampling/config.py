"""The `sampling` section of recipes and exported folders: how samples are drawn unless the user says otherwise."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dit.schema import Section

Time = Annotated[float, Field(ge=0, le=1)]


def _descends_to_above_zero(times: list[float]) -> bool:
    return times[-1] > 0 and times == sorted(set(times), reverse=True)


class SamplingConfig(Section):
    """How samples are drawn."""

    solver: Literal[
        "ddpm", "ddim", "euler", "heun", "midpoint", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "euler_maruyama", "dopri5"
    ] = "heun"
    """Solver; heun and midpoint call the network twice a step, dopri5 as often as its tolerance needs, others once."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 25
    """Number of solver steps."""
    grid: Literal[
        "auto", "uniform", "respaced", "respaced_ddim", "log_snr", "karras", "quadratic", "shifted", "list"
    ] = "auto"
    """Times of the steps; auto: uniform for flow, respaced for gaussian, respaced_ddim for gaussian with ddim."""
    times: list[Time] | None = None
    """The times of grid list, descending, without the final 0."""
    t_start: Annotated[float, Field(gt=0, le=1)] | None = None
    """First time of the grids log_snr and karras; left out: 1, or 0.999 where there is no data at t=1."""
    t_end: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Last time before 0 of the grids log_snr and karras."""
    rho: Annotated[float, Field(gt=0)] = 7.0
    """Exponent of the grid karras."""
    shift: Annotated[float, Field(gt=0)] = 3.0
    """Shift of the grid shifted towards noise; larger images need more."""
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Scale w of classifier-free guidance; 1 is off."""
    guidance_channels: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    """How many leading latent channels are guided; published DiT and SiT samples guide the first 3."""
    guidance_interval: Annotated[list[Time], Field(min_length=2, max_length=2)] | None = None
    """[low, high] times between which guidance acts; outside, the unconditional network is not called."""
    guidance_steps: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)] | None = None
    """[first, last] solver steps, counted from 0, at which guidance acts, in place of an interval of times."""
    guidance_schedule: Literal["constant", "linear", "power_cosine"] = "constant"
    """Course of the scale from 1 at the first step to w at the last."""
    guidance_power: Annotated[float, Field(gt=0)] = 4.0
    """Exponent of the guidance schedule power_cosine; larger acts later."""
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share by which the guided prediction's deviation is brought back to the conditional one's."""
    guidance_calls: Literal["one", "two"] = "one"
    """Whether both branches go through the network as one batch, or one after the other in half the memory."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the posterior's noise that ddim draws; 0 is deterministic."""
    variance: Literal["auto", "learned", "lower", "upper"] = "auto"
    """Reverse variance of ddpm; auto: learned where the network has it, else lower (the posterior's)."""
    diffusion: Literal["sigma", "forward", "constant"] = "sigma"
    """Squared diffusion coefficient of euler_maruyama: sigma_t, the forward process's, or 1."""
    diffusion_scale: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the squared diffusion coefficient; 0 makes euler_maruyama Euler's method."""
    cache: Literal["off", "static", "taylor"] = "off"
    """Step caching: calls between computed ones reuse (static) or extrapolate (taylor) the blocks' work."""
    cache_interval: Annotated[int, Field(ge=2)] = 2
    """With a cache, every how many calls the blocks are computed."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """Relative and absolute tolerance of dopri5."""

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if (self.grid == "list") != (self.times is not None):
            raise ValueError("times: expected with grid list, and only there")
        if self.times is not None and (len(self.times) != self.steps or not _descends_to_above_zero(self.times)):
            raise ValueError(f"times: expected {self.steps} (= steps) descending times above 0, found {self.times}")
        if self.guidance_steps is not None and not self.guidance_steps[0] <= self.guidance_steps[1] < self.steps:
            raise ValueError(f"guidance_steps: expected [first, last] below {self.steps}, found {self.guidance_steps}")
        if self.guidance_steps is not None and self.guidance_interval is not None:
            raise ValueError("guidance_steps: expected either steps or guidance_interval, found both")
        if self.guidance_interval is not None and self.guidance_interval[0] >= self.guidance_interval[1]:
            raise ValueError(f"guidance_interval: expected [low, high], found {self.guidance_interval}")
        return self


class LikelihoodConfig(Section):
    """How the likelihood of held-out latents is computed."""

    num: Annotated[int, Field(ge=2)] = 100
    """Number of held-out latents; the standard error falls with its root."""
    solver: Literal["heun", "dopri5"] = "heun"
    """Solver of the probability flow: heun on a fixed grid, or dopri5 with adaptive steps."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 128
    """Steps of heun, two network calls and two backward passes each."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-5
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
