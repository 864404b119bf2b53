"""How a model's samples are made, as the options of `dit sample` and `dit evaluate` say it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from dit.layers.compiler import Compilation
    from dit.layers.quantize import Quantization
    from dit.sampling.config import Published, Rounding, SamplingConfig
    from dit.zoo.pictures.many import ManyImages
    from dit.zoo.pipeline import Pipeline
    from dit.zoo.source import Located


@dataclass(frozen=True)
class Making:
    """How a model's samples are made, as options say it."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the sampling section, each checked alone."""
    published: bool = False
    """Whether the published setting takes the place of the defaults."""
    guide: str | None = None
    """Source of a weaker model."""
    rounding: "Rounding | None" = None
    """How pixels become bytes."""
    quantize: "Quantization | None" = None
    """What of the blocks is in 8 bits."""
    adapter: Path | None = None
    """Adapter that the weights are changed by."""
    compiled: "Compilation" = "off"
    """How the networks are compiled."""
    offload: bool = False
    """Whether weights are on the host while they don't compute."""
    decoder_tile: int | None = None
    """Side, in latent positions, of the tiles that are decoded; None: in one piece."""

    def locate(self, source: str | Path) -> "Located":
        """Find a model, and refuse settings that don't fit it, before torch is imported."""
        from dit.zoo.source import locate

        located = locate(source, published=self.published, adapter=self.adapter)
        checked_settings(located.config.sampling, dict(self.settings))
        return located

    def load(self, source: str | Path, device: "str | torch.device | None") -> "Pipeline":
        """Load a model; None: onto the process's own device."""
        from dit.zoo.pipeline import load_pipeline

        pipeline = load_pipeline(
            source,
            device=device,
            quantize=self.quantize,
            published=self.published,
            guide=self.guide,
            adapter=self.adapter,
            compiled=self.compiled,
            offload=self.offload,
            decoder_tile=self.decoder_tile,
        )
        pipeline.codec.rounding = self.rounding or pipeline.codec.rounding
        return pipeline


def making_of(
    overrides: Mapping[str, Any],
    *,
    published: bool = False,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    guidance_interval: str | None = None,
    cache: Literal["off", "static", "taylor", "encoder"] | None = None,
    guide: str | None = None,
    quantize: Literal["int8_weight", "int8"] | None = None,
    rounding: Literal["nearest", "down"] | None = None,
    decoder_tile: int | None = None,
    compiled: Literal["off", "blocks", "graphs"] = "off",
    offload: bool = False,
) -> Making:
    """Return how samples are made, as those options say it that several verbs have.

    Args:
        overrides: `sampling.FIELD` -> value.
        published: sample as for the published figure: solver, steps, guidance, guide, labels of a folder or .npz,
            rounding and decoding autoencoder; options that are given beside it win.
        steps: solver steps, at least 1.
        solver: name of the solver; below, under --sampling.solver.name, is the list.
        guidance: scale of classifier-free guidance; 1 is off.
        guidance_interval: times between which guidance acts, such as 0.1,0.8; outside, the network is called once.
        cache: skip the blocks in every other call: reuse (static) or extrapolate (taylor) their work, or that of the
            network's encoder (encoder); images change.
        guide: source of a weaker model that guides in place of the null class (autoguidance).
        quantize: hold the blocks' weights in 8 bits (int8_weight), or compute their products so too (int8, for GPUs and
            for CPUs with VNNI or AMX); images change a little. Needs torchao, the extra `quantize`.
        rounding: how pixels become bytes: to the nearest, or down as several authors do; nearest by default.
        decoder_tile: decode image by image, in tiles of so many latent positions a side that fade into each other, for
            small GPUs; images change a little.
        compiled: compile the network's blocks, or replay its calls as CUDA graphs too (graphs, for GPUs), which pays
            for many batches of one size; images change a little.
        offload: keep weights on the host while they don't compute, for small GPUs; images stay the same.

    Raises:
        ConfigError: naming the option, what was expected and what was found.
    """
    fields = {"steps": steps, "solver": solver, "guidance": guidance, "guidance_interval": guidance_interval}
    settings = sampling_settings(overrides, **fields, cache=cache)
    return Making(
        settings,
        published,
        guide,
        rounding,
        quantize,
        compiled=compiled,
        offload=offload,
        decoder_tile=decoder_tile,
    )


def sampling_settings(overrides: Mapping[str, Any] | None, **given: Any) -> dict[str, Any]:
    """Return the sampling options that were given, after checking each of them alone.

    Args:
        overrides: `sampling.FIELD` -> value.
        given: field -> value; None was not given.

    Raises:
        ConfigError: naming the option, what was expected and what was found.
    """
    from dit.sampling.config import NEEDS, SamplingConfig, changed
    from dit.validation import validate

    settings = {name: value for name, value in given.items() if value is not None}
    settings |= {key.removeprefix("sampling."): value for key, value in (overrides or {}).items()}
    # What depends on a choice that only the model's defaults make waits for them.
    waiting = {field: choice for field, (choice, _) in NEEDS.items()}
    waiting |= {key: key.partition(".")[0] for key in settings if "." in key}
    alone = {key: value for key, value in settings.items() if waiting.get(key, key) in settings}
    validate(SamplingConfig, changed(SamplingConfig(), alone), origin="sampling", overridden=settings)
    return settings


def checked_settings(own: "SamplingConfig", settings: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, once they fit a model's own; see `sampling_settings`."""
    from dit.sampling.config import SamplingConfig, changed
    from dit.validation import validate

    validate(SamplingConfig, changed(own, settings), origin="sampling", overridden=settings)
    return settings


def label_order(published: "Published | None", *, balanced: bool, drawn: bool, classes: str | None = None) -> str:
    """Return how the labels of many images are chosen.

    Args:
        published: setting that decides where no option does.
        balanced: --balanced.
        drawn: --drawn.
        classes: --classes.

    Raises:
        ConfigError: options that exclude each other.
    """
    from dit.errors import ConfigError

    if drawn and (balanced or classes):
        raise ConfigError(f"--drawn: classes are drawn from all; leave out --{'balanced' if balanced else 'classes'}")
    if classes:
        return "given"
    is_balanced = balanced or (published is not None and published.labels == "balanced" and not drawn)
    return "balanced" if is_balanced else "drawn"


def many_images(
    pipeline: "Pipeline",
    settings: Mapping[str, Any],
    *,
    num: int | None,
    order: str,
    seed: int,
    batch_size: int,
    classes: str | None = None,
) -> "ManyImages":
    """Return the description of many images that a pipeline is to make.

    Args:
        pipeline: the model.
        settings: fields of the sampling section that differ from its own.
        num: how many; None: one per class.
        order: how their labels are chosen, from `label_order`.
        seed: of the noise, and of labels that are drawn.
        batch_size: images at a time.
        classes: ids or names, where they are given.

    Raises:
        ConfigError: an unknown class, or a value out of range.
    """
    from dit.zoo.pictures.many import ManyImages

    labels = pipeline.random_labels(num, seed=seed) if order == "drawn" else pipeline.labels(classes, num)
    return ManyImages(
        labels,
        pipeline.settings(**settings),
        seed,
        batch_size,
        pipeline.fingerprints(),
        order=order,
        rounding=pipeline.codec.rounding,
        autoencoder=pipeline.codec.fingerprint,
        precision=pipeline.precision,
        compilation=pipeline.compilation,
        decoder_tile=pipeline.codec.tile,
    )
