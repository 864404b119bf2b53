"""Recipe sections of training: the loop (`train`), the optimizer (`optim`) and the weight average (`ema`).

Steps are optimizer steps. The batch size is global: over all processes and all accumulated micro-batches.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from dit.schema import OneOf, Section


class TrainConfig(Section):
    """Length, batch, precision and cadences of a run."""

    epochs: float | None = Field(default=None, gt=0, le=10**6, allow_inf_nan=False)
    """Passes over the training images, in place of max_steps; whole steps, rounded up."""
    max_steps: int = Field(default=100_000, ge=1, le=10**9)
    """Optimizer steps in all; a resumed run stops at the same number. Null where epochs says it."""
    decay_from: str | None = None
    """Checkpoint of a run of schedule wsd or constant that this one goes on from, by its folder, with a decay at once;
    max_steps follows."""
    batch_size: int = Field(default=256, ge=1, le=10**6)
    """Images per optimizer step over all processes and accumulated micro-batches."""
    gradient_accumulation: int = Field(default=1, ge=1, le=10**6)
    """Micro-batches per optimizer step; batch_size must be divisible by it times the number of processes."""
    mixed_precision: Literal["fp32", "bf16", "fp16", "auto"] = "auto"
    """Precision of the network's arithmetic; fp16 needs a GPU, auto takes bf16 where it pays and else fp32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the network's block is compiled; auto: where that pays within the run, from about ten minutes on."""
    activation_checkpointing: Literal["none", "blocks", "selective"] = "none"
    """Saves memory: the backward pass computes whole blocks again, or in less time their wide parts (selective)."""
    shard: Literal["none", "fsdp2", "hsdp"] = "none"
    """Whether each of several processes holds a part of the weights, gradients, optimizer and averages: of all (fsdp2),
    or of a group of shard_size, each group holding all (hsdp); none: everything."""
    shard_size: int | None = Field(default=None, ge=2)
    """Processes of a group that shares the weights with hsdp; null: those of one machine, as the launcher says."""
    deterministic: bool = False
    """Whether a GPU computes the same bits each time, so that a resumed run is exact there too; slower. A CPU does."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of initialisation, data order, noise, timesteps, label drop and latent draws."""
    log_every: int = Field(default=100, ge=1)
    """Steps between two rows of metrics.jsonl."""
    checkpoint_every: int = Field(default=5_000, ge=1)
    """Steps between two checkpoints; the last step always writes one."""
    keep_checkpoints: int = Field(default=2, ge=2)
    """Newest checkpoints to keep; older ones are deleted after a newer one is complete."""
    keep_every: int = Field(default=0, ge=0)
    """Steps between two checkpoints that are never deleted (0: none)."""
    validate_every: int = Field(default=5_000, ge=0)
    """Steps between two validation losses (0: never)."""
    validation_samples: int = Field(default=1_000, ge=1)
    """Held-out images of one validation loss; fewer are used if the split holds fewer."""
    validation_buckets: int = Field(default=10, ge=1, le=1_000)
    """Time buckets by which training and validation losses are reported; validation covers them evenly."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between two evaluations of the average's samples, as section evaluation says (0: never); best/ keeps the
    weights of the lowest Frechet distance."""
    preview_every: int = Field(default=5_000, ge=0)
    """Steps between two grids of preview samples (0: never)."""
    preview_samples: int = Field(default=64, ge=1)
    """Images in a preview grid, classes in turn."""
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ("tensorboard",)
    """Experiment trackers that receive metrics, previews and the recipe besides metrics.jsonl; pip install
    'dit-zoo[trackers]' for all but TensorBoard."""
    on_spike: Literal["warn", "stop"] = "warn"
    """What a loss far above the recent ones does: a warning, or the end of the run."""
    spike_sigma: float = Field(default=6.0, gt=0, allow_inf_nan=False)
    """How far above the mean of the recent losses a loss is a spike, in their standard deviations."""
    timeout: float = Field(default=1_800.0, gt=0, le=10**6, allow_inf_nan=False)
    """Seconds after which processes that wait for another one give up and name it."""

    @field_validator("max_steps", mode="before")
    @classmethod
    def _one_length(cls, value: Any, info: ValidationInfo) -> Any:
        if (epochs := info.data.get("epochs")) is None:
            return value
        if value is not None:
            raise ValueError(f"expected max_steps or epochs, found {value} and {epochs:g}; set one of them to null")
        return cls.model_fields["max_steps"].default

    @field_serializer("max_steps")
    def _written_as_read(self, value: int) -> int | None:
        return value if self.epochs is None else None

    def with_max_steps(self, num_images: int) -> Self:
        """Return the section with `epochs`, if it is set, turned into `max_steps` of a training set of this size."""
        if self.epochs is None:
            return self
        max_steps = math.ceil(self.epochs * num_images / self.batch_size)
        return self.model_copy(update={"max_steps": max_steps, "epochs": None})


Patterns = tuple[str, ...]


class TrainableConfig(Section):
    """What the sections of all choices of parameters have."""

    name: str
    """Which parameters are trained: all, those whose names match patterns (a list is short for it), or lora."""


class AllConfig(TrainableConfig):
    """Every parameter."""

    name: Literal["all"] = "all"
    """Which parameters are trained."""


class PatternsConfig(TrainableConfig):
    """The parameters of some names."""

    name: Literal["patterns"] = "patterns"
    """Which parameters are trained."""
    patterns: Annotated[Patterns, Field(min_length=1)]
    """Shell patterns of the names of the trained parameters, such as blocks.1?.* or y_embedder.*."""


class LoraConfig(TrainableConfig):
    """Low-rank updates of linear layers."""

    name: Literal["lora"] = "lora"
    """Which parameters are trained."""
    rank: int = Field(default=16, ge=1, le=4096)
    """Rank of the updates."""
    alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    """Updates are scaled by alpha / rank."""
    targets: Annotated[Patterns, Field(min_length=1)] = ("*attn.*", "*mlp.*")
    """Shell patterns of the names of the blocks' linear layers that are updated; by default attention and MLPs."""
    also: Patterns = ()
    """Shell patterns of the names of parameters that are trained whole beside, such as y_embedder.* for new classes."""


TRAINABLE = {"all": AllConfig, "patterns": PatternsConfig, "lora": LoraConfig}
"""Choices of the trained parameters by name."""


def _patterns(value: Any) -> Any:
    return {"name": "patterns", "patterns": value} if isinstance(value, list | tuple) else value


class OptimConfig(Section):
    """Optimizer, learning-rate schedule, gradient clipping and what is trained."""

    name: str = "adamw"
    """Optimizer by its timm.optim name (timm.optim.list_optimizers()); muon: Muon for matrices, AdamW for the rest."""
    lr: float = Field(default=1e-4, gt=0, allow_inf_nan=False)
    """Peak learning rate. With muon it is of what AdamW updates."""
    muon_lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Peak learning rate of the matrices that Muon updates, by steps as large as AdamW's."""
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    """Decay rate of Muon's momentum."""
    betas: tuple[float, float] | None = (0.9, 0.999)
    """Decay rates of the first and second moment; null for an optimizer without them."""
    eps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Term added to the denominator; null leaves the optimizer's own."""
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Decoupled weight decay; biases and one-dimensional parameters are exempt."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0 to lr."""
    schedule: Literal["constant", "cosine", "linear", "wsd"] = "constant"
    """Course of the learning rates from the end of the warm-up to max_steps; wsd: stable, then a short decay."""
    decay_steps: int = Field(default=10_000, ge=1)
    """Last steps of schedule wsd, over which the learning rates fall."""
    final_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    """Last learning rate of the schedules that fall, as a share of the peak."""
    max_grad_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Gradients with a larger global norm are scaled down to it; null: no clipping."""
    trainable: Annotated[SerializeAsAny[TrainableConfig], OneOf(lambda: TRAINABLE), BeforeValidator(_patterns)] = (
        AllConfig()
    )
    """Which parameters are trained: all, those whose names match patterns (a list is short for it), or lora."""


class EmaConfig(Section):
    """The exponential moving average of the weights, which is what samples, evaluations and exports use."""

    decay: float = Field(default=0.9999, ge=0, lt=1)
    """Weight of the old average per optimizer step."""
    warmup: bool = False
    """Whether step n uses at most (1 + n) / (10 + n) as decay, so that short runs forget their start."""
    further_decays: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = ()
    """Decays of further averages, tracked, validated and saved beside the first."""
    sigma_rels: tuple[Annotated[float, Field(gt=0, lt=0.28)], ...] = ()
    """Relative widths of power-function averages for `dit ema`, such as [0.05, 0.1]; none: not tracked."""
    snapshot_every: int = Field(default=1_000, ge=1)
    """Steps between two snapshots of the power-function averages; `dit ema` combines all of them."""
    snapshot_precision: Literal["fp32", "fp16"] = "fp16"
    """Precision of the snapshots; the averages themselves are kept in float32."""
    from_file: bool = False
    """Whether average, optimizer and step go on from those of the training file that model.pretrained names."""
    restart: bool = False
    """Whether --resume may begin the averages anew from the loaded weights where the checkpoint lacks them."""

    @model_validator(mode="after")
    def _file_has_one_average(self) -> Self:
        if self.from_file and (self.further_decays or self.sigma_rels):
            raise ValueError("from_file: expected no further_decays or sigma_rels, for a training file has one average")
        return self

    @model_validator(mode="after")
    def _averages_differ(self) -> Self:
        for field, values in (("further_decays", (self.decay, *self.further_decays)), ("sigma_rels", self.sigma_rels)):
            if len(set(values)) < len(values):
                raise ValueError(f"{field}: expected averages that differ from each other, found {list(values)}")
        return self
