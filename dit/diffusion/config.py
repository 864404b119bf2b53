"""The `process` section of a recipe: which schedule, prediction, time law and weighting a network is trained with."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dit.schema import BareList, Section

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0, le=1)]


class UniformTime(Section):
    """Every time is equally likely."""

    name: Literal["uniform"] = "uniform"
    """Law of t: uniform, logit_normal or adaptive."""
    shift: Positive = 1.0
    """Moves times towards noise when above 1: t -> shift t / (1 + (shift - 1) t)."""


class LogitNormalTime(Section):
    """Middle times are likelier: t = sigmoid(mean + scale z), z ~ N(0, 1)."""

    name: Literal["logit_normal"] = "logit_normal"
    """Law of t: uniform, logit_normal or adaptive."""
    mean: Finite = 0.0
    """Mean of logit(t)."""
    scale: Positive = 1.0
    """Standard deviation of logit(t)."""
    shift: Positive = 1.0
    """Moves times towards noise when above 1: t -> shift t / (1 + (shift - 1) t)."""
    largest: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Largest time, before the shift; the law is cut off there."""


class AdaptiveTime(Section):
    """Times are likelier where the measured loss is high; weights keep the expected loss that of uniform times."""

    name: Literal["adaptive"] = "adaptive"
    """Law of t: uniform, logit_normal or adaptive."""
    num_buckets: Annotated[int, Field(ge=2, le=10_000)] = 100
    """Buckets of the histogram over t."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Weight of the old second moment of a bucket at each new loss in it."""
    uniform_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of times that are drawn uniformly, so that no bucket starves."""


TimeLawConfig = Annotated[UniformTime | LogitNormalTime | AdaptiveTime, Field(discriminator="name")]


class UniformWeighting(Section):
    """The mean square error of the prediction as it is."""

    name: Literal["uniform"] = "uniform"
    """Weighting of the loss over time: uniform, velocity, min_snr, sigmoid or edm."""


class VelocityWeighting(Section):
    """The square error of the velocity that follows from the prediction."""

    name: Literal["velocity"] = "velocity"
    """Weighting of the loss over time: uniform, velocity, min_snr, sigmoid or edm."""


class MinSnrWeighting(Section):
    """Error of x_0 times min(SNR, gamma): easy, nearly clean times count no more than SNR = gamma."""

    name: Literal["min_snr"] = "min_snr"
    """Weighting of the loss over time: uniform, velocity, min_snr, sigmoid or edm."""
    gamma: Positive = 5.0
    """Signal-to-noise ratio from which the weight no longer grows."""


class SigmoidWeighting(Section):
    """Error of eps times sigmoid(bias - log-SNR): noisy times count, nearly clean ones fade out."""

    name: Literal["sigmoid"] = "sigmoid"
    """Weighting of the loss over time: uniform, velocity, min_snr, sigmoid or edm."""
    bias: Finite = 0.0
    """Log-SNR at which the weight is one half."""


class EdmWeighting(Section):
    """EDM's weight: every noise level starts with the same loss, for data of the given deviation."""

    name: Literal["edm"] = "edm"
    """Weighting of the loss over time: uniform, velocity, min_snr, sigmoid or edm."""
    sigma_data: Positive = 1.0
    """Standard deviation of the latents."""


WeightingConfig = Annotated[
    UniformWeighting | VelocityWeighting | MinSnrWeighting | SigmoidWeighting | EdmWeighting,
    Field(discriminator="name"),
]


class FlowConfig(Section):
    """Continuous time; flow matching unless another schedule or prediction is named."""

    name: Literal["flow"] = "flow"
    """Process: flow, gaussian, edm or average_velocity."""
    schedule: Literal["linear", "gvp", "vp_linear", "vp_cosine"] = "linear"
    """Path from data to noise; linear: x_t = (1 - t) x_0 + t eps; gvp: trigonometric; vp_*: diffusion."""
    noise_scale: Positive = 1.0
    """Deviation of the noise, for schedule linear; large images in pixels need more than 1."""
    prediction: Literal["velocity", "x0", "eps", "v", "score"] = "velocity"
    """What the network is trained to return."""
    velocity_floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """With prediction x0 on schedule linear: the velocity is (x_t - x_0) / max(t, velocity_floor)."""
    time_law: TimeLawConfig = UniformTime()
    """Distribution of the training times."""
    weighting: WeightingConfig = UniformWeighting()
    """Weight of the squared error over time."""
    time_scale: Finite = 1000.0
    """The network embeds time_offset + time_scale t."""
    time_offset: Finite = 0.0
    """The network embeds time_offset + time_scale t."""
    output_sign: Literal[1, -1] = 1
    """-1 for networks that were trained to return the opposite of the prediction."""
    learn_sigma: bool = False
    """Whether the network has a second output half, which this process discards (published SiT weights do)."""
    retrain: bool = False
    """Whether weights of another process (model.pretrained) may be trained further by this one."""

    @model_validator(mode="after")
    def _combination_makes_sense(self) -> "FlowConfig":
        if self.schedule != "linear" and self.noise_scale != 1:
            raise ValueError(f"noise_scale: expected 1 with schedule {self.schedule}, found {self.noise_scale}")
        if self.velocity_floor and (self.schedule, self.prediction) != ("linear", "x0"):
            raise ValueError(
                "velocity_floor: expected 0, for it is for schedule linear with prediction x0, "
                f"found {self.velocity_floor}"
            )
        if self.prediction in ("eps", "score") and self.schedule in ("linear", "gvp", "vp_cosine"):
            raise ValueError(
                f"prediction {self.prediction} with schedule {self.schedule} says nothing about the data at t=1, "
                "where alpha is 0; expected prediction velocity, v or x0, or schedule vp_linear"
            )
        if self.prediction == "score" and isinstance(self.weighting, UniformWeighting):
            raise ValueError(
                "prediction score with weighting uniform has an infinite expected loss, for the score grows beyond all "
                "bounds towards t=0; expected weighting min_snr, sigmoid or edm, or prediction eps"
            )
        if self.prediction == "velocity" and self.schedule in ("vp_linear", "vp_cosine"):
            raise ValueError(
                f"prediction velocity with schedule {self.schedule} has an infinite target at t=0, where sigma grows "
                "like a square root; expected prediction eps, v or x0, or schedule linear or gvp"
            )
        return self


class GaussianConfig(Section):
    """Denoising diffusion as published with DiT: discrete steps, epsilon prediction, learned variance."""

    name: Literal["gaussian"] = "gaussian"
    """Process: flow, gaussian, edm or average_velocity."""
    betas: Literal["linear", "cosine", "scaled_linear"] = "linear"
    """Noise schedule; linear: 1e-4 to 0.02 over 1000 steps; scaled_linear: Stable Diffusion's."""
    num_steps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Number of diffusion steps."""
    first_step: Literal[0, 1] = 0
    """Number by which the network knows the first step."""
    learn_sigma: bool = True
    """Whether the network predicts the variance too, trained by the variational bound."""
    time_law: TimeLawConfig = UniformTime()
    """Distribution of the training steps."""
    weighting: WeightingConfig = UniformWeighting()
    """Weight of the squared error over time; the variational bound keeps its own."""
    retrain: bool = False
    """Whether weights of another process (model.pretrained) may be trained further by this one."""

    @model_validator(mode="after")
    def _combination_makes_sense(self) -> "GaussianConfig":
        if self.betas == "linear" and self.num_steps <= 20:
            raise ValueError(
                "num_steps: expected more than 20 with linear betas, whose last is 20 / num_steps and must be below 1, "
                f"found {self.num_steps}"
            )
        if isinstance(self.time_law, AdaptiveTime) and self.time_law.num_buckets > self.num_steps:
            raise ValueError(
                f"time_law.num_buckets: expected at most num_steps {self.num_steps}, for a bucket without a step never "
                f"sees a loss, found {self.time_law.num_buckets}"
            )
        return self


class LogNormalNoise(Section):
    """Noise levels whose logarithm is normal."""

    name: Literal["log_normal"] = "log_normal"
    """Law of the noise level: log_normal."""
    mean: Finite = -1.2
    """Mean of log sigma."""
    scale: Positive = 1.2
    """Standard deviation of log sigma."""


class EdmConfig(Section):
    """Data in noise of any level, with inputs and outputs of the network scaled to unit variance."""

    name: Literal["edm"] = "edm"
    """Process: flow, gaussian, edm or average_velocity."""
    sigma_data: Positive = 0.5
    """Standard deviation that the scales assume of the data."""
    sigma_max: Positive = 80.0
    """Noise level at t=1, where sampling starts; sigma is sigma_max t."""
    time_law: LogNormalNoise = LogNormalNoise()
    """Distribution of the training noise levels."""
    learn_sigma: Literal[False] = False
    """Whether the network has a second output half: not in this process."""
    retrain: bool = False
    """Whether weights of another process (model.pretrained) may be trained further by this one."""


class VelocityLoss(Section):
    """The square error at r = t, where the average velocity is the velocity: the network is trained as of a flow."""

    name: Literal["velocity"] = "velocity"
    """Loss of average velocities: velocity, meanflow or imf."""


class MeanFlowLoss(Section):
    """Averages between two times by their derivative, which makes samples in one step; one guidance is trained in."""

    name: Literal["meanflow"] = "meanflow"
    """Loss of average velocities: velocity, meanflow or imf."""
    equal_share: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Share of samples with r = t."""
    weight_power: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """p: a sample of square error L, summed over the latent, weighs 1 / (L + weight_offset)^p."""
    weight_offset: Positive = 0.01
    """Square error that is added for the weight."""
    guidance: Positive = 1.0
    """Guidance scale that the network learns to sample with; 1: none."""
    guidance_mix: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """kappa: share of the network's own guided velocity in its target, which steadies it."""
    guidance_interval: Annotated[tuple[Time, Time], Field(strict=False), BareList] = (0.0, 1.0)
    """Least and largest time at which guidance acts."""

    @model_validator(mode="after")
    def _interval_is_one(self) -> "MeanFlowLoss":
        if self.guidance_interval[0] >= self.guidance_interval[1]:
            raise ValueError(f"guidance_interval: expected [low, high], found {list(self.guidance_interval)}")
        return self


class ImfLoss(Section):
    """MeanFlow's with a second output for the velocity, and with guidance of any scale and interval as an input."""

    name: Literal["imf"] = "imf"
    """Loss of average velocities: velocity, meanflow or imf."""
    equal_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of samples with r = t."""
    weight_power: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """p: a sample of square error L, summed over the latent, weighs 1 / (L + weight_offset)^p."""
    weight_offset: Positive = 0.01
    """Square error that is added for the weight."""
    largest_guidance: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 8.0
    """Scales of guidance are drawn between 1 and this."""
    guidance_power: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Density of the scales w: in proportion to w to the minus this power."""
    velocity_floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The velocity is (x_t - x_0) / max(t, velocity_floor): for networks that predict the image."""


AverageLoss = Annotated[VelocityLoss | MeanFlowLoss | ImfLoss, Field(discriminator="name")]


class AverageVelocityConfig(Section):
    """Flow matching whose network knows a second time: it returns the mean velocity between the two."""

    name: Literal["average_velocity"] = "average_velocity"
    """Process: flow, gaussian, edm or average_velocity."""
    condition: Literal["r", "h"] = "r"
    """How the network is told the earlier time r: by itself, or by the step h = t - r."""
    loss: AverageLoss = VelocityLoss()
    """What is trained: the velocity alone, or averages too, so that one step makes a sample."""
    noise_scale: Positive = 1.0
    """Deviation of the noise; large images in pixels need more than 1."""
    time_law: TimeLawConfig = LogitNormalTime(mean=-0.4)
    """Distribution of the training times; of averages it is the law of two draws, the larger being t."""
    time_scale: Finite = 1.0
    """The network embeds time_offset + time_scale t, r likewise, and time_scale h; weights of a flow keep its own."""
    time_offset: Finite = 0.0
    """The network embeds time_offset + time_scale t."""
    output_sign: Literal[1, -1] = 1
    """-1 for networks that were trained to return the opposite."""
    learn_sigma: Literal[False] = False
    """Whether the network has a second output half: not in this process."""
    retrain: bool = False
    """Whether weights of another process (model.pretrained) may be trained further by this one."""

    @model_validator(mode="after")
    def _law_fits_the_loss(self) -> "AverageVelocityConfig":
        if isinstance(self.time_law, AdaptiveTime) and not isinstance(self.loss, VelocityLoss):
            raise ValueError(
                f"time_law: expected uniform or logit_normal with loss {self.loss.name}, which weighs its samples "
                "itself, found adaptive"
            )
        return self


ProcessConfig = Annotated[FlowConfig | GaussianConfig | EdmConfig | AverageVelocityConfig, Field(discriminator="name")]
