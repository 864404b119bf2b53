"""The `process` section of a recipe: which schedule, prediction and time law a network is trained with."""

from typing import Annotated, Literal

from pydantic import Field

from dit.schema import Section

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class UniformTime(Section):
    """Every time is equally likely."""

    name: Literal["uniform"] = "uniform"
    """Law of t: uniform or logit_normal."""
    shift: Positive = 1.0
    """Moves times towards noise when above 1: t -> shift t / (1 + (shift - 1) t)."""


class LogitNormalTime(Section):
    """Middle times are likelier: t = sigmoid(mean + scale z), z ~ N(0, 1)."""

    name: Literal["logit_normal"] = "logit_normal"
    """Law of t: uniform or logit_normal."""
    mean: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Mean of logit(t)."""
    scale: Positive = 1.0
    """Standard deviation of logit(t)."""
    shift: Positive = 1.0
    """Moves times towards noise when above 1: t -> shift t / (1 + (shift - 1) t)."""


TimeLawConfig = Annotated[UniformTime | LogitNormalTime, Field(discriminator="name")]


class FlowConfig(Section):
    """Flow matching: continuous time, a regression on the velocity."""

    name: Literal["flow"] = "flow"
    """Process: flow or gaussian."""
    schedule: Literal["linear"] = "linear"
    """Path from data to noise; linear: x_t = (1 - t) x_0 + t eps."""
    prediction: Literal["velocity"] = "velocity"
    """What the network is trained to return."""
    time_law: TimeLawConfig = UniformTime()
    """Distribution of the training times."""
    time_scale: Annotated[float, Field(allow_inf_nan=False)] = 1000.0
    """The network embeds time_offset + time_scale t."""
    time_offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """The network embeds time_offset + time_scale t."""
    output_sign: Literal[1, -1] = 1
    """-1 for networks that were trained to return the opposite of the velocity d x_t / d t."""
    learn_sigma: bool = False
    """Whether the network has a second output half, which this process discards (published SiT weights do)."""


class GaussianConfig(Section):
    """Denoising diffusion as published with DiT: discrete steps, epsilon prediction, learned variance."""

    name: Literal["gaussian"] = "gaussian"
    """Process: flow or gaussian."""
    betas: Literal["linear", "cosine"] = "linear"
    """Noise schedule; linear: 1e-4 to 0.02 over 1000 steps."""
    num_steps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Number of diffusion steps."""
    learn_sigma: bool = True
    """Whether the network predicts the variance too, trained by the variational bound."""


ProcessConfig = Annotated[FlowConfig | GaussianConfig, Field(discriminator="name")]
