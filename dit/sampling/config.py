"""The `sampling` section of recipes and exported folders: how samples are drawn unless the user says otherwise."""

from typing import Annotated, Literal

from pydantic import Field

from dit.schema import Section


class SamplingConfig(Section):
    """How samples are drawn."""

    solver: Literal["ddpm", "ddim", "euler", "heun"] = "heun"
    """Solver; ddpm draws noise at every step, the others at most with eta."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 25
    """Number of solver steps; heun calls the network twice in each."""
    grid: Literal["auto", "uniform", "respaced", "respaced_ddim"] = "auto"
    """Times of the steps; auto: uniform for flow, respaced for gaussian, respaced_ddim for gaussian with ddim."""
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Scale w of classifier-free guidance; 1 is off."""
    guidance_channels: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    """How many leading latent channels are guided; published DiT and SiT samples guide the first 3."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the posterior's noise that ddim draws; 0 is deterministic."""
    variance: Literal["auto", "learned", "lower", "upper"] = "auto"
    """Reverse variance of ddpm; auto: learned where the network has it, else lower (the posterior's)."""
