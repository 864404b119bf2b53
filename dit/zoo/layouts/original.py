"""Reading a model of any known layout: what a file or folder is, is told from its content.

A file is safetensors or a pickle by its first bytes. A state dict is of a family's layout by its names
(`dit.models.layout`); its arguments follow from the shapes. A process that the content does not give away is the
layout's first, which a notice says.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor

from dit.data.imagenet import imagenet_classes
from dit.diffusion.config import GaussianConfig, ProcessConfig
from dit.errors import ConfigError, DitError
from dit.latents.codec import load_codec
from dit.latents.config import LatentsDescription
from dit.models.families import FAMILIES, family_of
from dit.models.family import Arguments, Family
from dit.models.layout import Layout
from dit.pickle_file import load_pickle
from dit.plugins import loaded_plugins
from dit.sampling.config import SamplingConfig
from dit.sampling.solvers import SolverOptions
from dit.tensors import check_tensors
from dit.validation import validate
from dit.zoo.folder.config import FolderConfig, Provenance
from dit.zoo.folder.safetensors_file import read_header
from dit.zoo.folder.weights import DTYPES, check_finite, empty_model
from dit.zoo.layouts.architecture import describe_network
from dit.zoo.layouts.table import recognise, strip_wrappers, to_native

METADATA_KEY = "dit_config"
"""Where our own files in the original layout carry their `config.json`, so that nothing is lost on the way."""
SD_AUTOENCODERS = {"ema": "stabilityai/sd-vae-ft-ema", "mse": "stabilityai/sd-vae-ft-mse"}
SD_SCALE = 0.18215
NUM_IMAGENET_CLASSES = 1000
_OTHER = {"ema": "raw", "raw": "ema"}


@dataclass(frozen=True)
class ReadOptions:
    """What the content of a file can't tell, or what the user prefers."""

    weights: Literal["ema", "raw", "vae"] = "ema"
    """Which weights of a training checkpoint; vae: not the network's, but those of the autoencoder trained with it."""
    process: str | None = None
    """The process it was trained for, by its name in the layout."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the network, and its variant as `name`."""
    vae: str | None = None
    """The autoencoder: an embedded name, a folder or a Hub id."""
    stats: str | Path | None = None
    """Of an autoencoder, the file with the statistics of its latents."""
    encoder: str | None = None
    """Of a representation autoencoder's decoder, the encoder: a folder or a Hub id."""


@dataclass
class ForeignModel:
    """A model in memory, named as ours, on its way from one layout to another."""

    config: FolderConfig
    """Its description."""
    tensors: dict[str, Tensor]
    """Its weights, by our names."""
    notices: list[str] = field(default_factory=list)
    """What was decided or left out on the way, one line each."""
    autoencoder_folder: Path | None = None
    """The folder of its autoencoder, where that is the user's own and has to go along."""
    carried_over: list[Path] = field(default_factory=list)
    """Further files of its folder that stay true."""


def read_state_file(path: str | Path, options: ReadOptions) -> ForeignModel:
    """Read a file with a state dict: safetensors, or what torch.save wrote.

    Raises:
        ConfigError: something has to be given that the file does not tell.
        DitError: the file is not a model, or is damaged.
    """
    path = Path(path)
    tensors, facts, key = _load(path, options.weights)
    notices: list[str] = []
    config = _described_by_itself(path, facts[METADATA_KEY]) if METADATA_KEY in facts else None
    try:
        tensors = strip_wrappers(tensors)
        family, layout = recognise(tensors, options.weights) if config is None else own_layout(config)
        native, left_out = to_native(tensors, layout)
    except DitError as error:
        raise DitError(f"{path}: {error}") from None
    found = options.weights if key is None or key in layout.weights[options.weights] else _OTHER[options.weights]
    if found != options.weights:
        notices.append(f"{path.name} has no {options.weights} weights; its {key!r} was taken")
    if left_out:
        patterns = Counter(next(filter(partial(fnmatchcase, name), layout.dropped)) for name in left_out)
        counts = ", ".join(f"{pattern} ({number})" for pattern, number in patterns.items())
        notices.append(f"{len(left_out)} tensors that are no part of the model were left out: {counts}")
    check_weights(path, native)
    autoencoder_folder = None
    if config is None:
        config, autoencoder_folder = _describe(path, native, family, layout, facts, options, notices)
        config = config.model_copy(update={"provenance": config.provenance.updated(weights=key and found)})
        if config.latents and layout.moments:
            latents = _normalised_by(config.latents, path, tensors, layout.moments)
            config = config.model_copy(update={"latents": latents})
            notices.append(f"its latents are normalised by {' and '.join(layout.moments)}")
    check_tensors(path, empty_model(config.model).state_dict(), native)
    return ForeignModel(config, native, notices, autoencoder_folder)


def own_layout(config: FolderConfig) -> tuple[Family, Layout]:
    """Return a model's family, and the layout that its original has."""
    family = family_of(config.model.name)
    return family, family.layouts[0] if family.layouts else Layout(family.name, ())


def published_process(layout: Layout, name: str, arguments: Arguments) -> ProcessConfig | None:
    """Return the process of published weights by its name in the layout; None where there is none of that name."""
    found = next((entry.process for entry in layout.trained_for if entry.name == name), None)
    if found is None:
        return None
    variance = arguments.model_dump(include={"learn_sigma"})  # where the network has the choice
    return TypeAdapter(ProcessConfig).validate_json(json.dumps({**found, **variance}))


def default_sampling(process: ProcessConfig) -> SamplingConfig:
    """Return sampling defaults for published weights: guidance 4 on three channels, as their papers' pictures.

    Source of the numbers of steps: Lu et al., "DPM-Solver++", 2022, abstract and section 6.
    """
    steps = 15 if isinstance(process, GaussianConfig) else 20
    return SamplingConfig(solver=SolverOptions(name="dpmpp_2m"), steps=steps, guidance=4.0, guidance_channels=3)


def describe_autoencoder(vae: str, in_channels: int) -> tuple[LatentsDescription, Path | None]:
    """Describe an autoencoder for `config.json`; the Stable Diffusion ones without a download.

    Returns:
        The description, and the autoencoder's folder where it is the user's own.

    Raises:
        ConfigError: there is no such autoencoder, or its latents have another number of channels.
    """
    folder = None
    if vae in SD_AUTOENCODERS.values():
        description = LatentsDescription(
            vae=vae, revision=None, fingerprint=None, class_name="AutoencoderKL", image_channels=3,
            latent_channels=4, downscale=8, scale=(SD_SCALE,) * 4, shift=(0.0,) * 4,
        )  # fmt: skip
    else:
        codec = load_codec(vae)
        description = codec.describe()
        if codec.folder.is_local:
            folder = codec.folder.path
    if description.latent_channels != in_channels:
        raise ConfigError(
            f"--vae: expected an autoencoder with {in_channels} latent channels, found {vae!r} with "
            f"{description.latent_channels}"
        )
    return description, folder


def imagenet_labels(num_classes: int) -> dict[str, str]:
    """Return the names of 1000 classes, which are ImageNet's in all that was published; else nothing."""
    return {str(i): name for i, name in enumerate(imagenet_classes())} if num_classes == NUM_IMAGENET_CLASSES else {}


def _described_by_itself(path: Path, text: str) -> FolderConfig:
    try:
        content = json.loads(text)
    except ValueError:
        raise DitError(f"{path}: expected JSON in its metadata under {METADATA_KEY}, found {text[:40]!r}") from None
    return validate(FolderConfig, content, origin=f"{path}, metadata {METADATA_KEY}")


def _load(path: Path, weights: str) -> tuple[dict[str, Tensor], dict[str, Any], str | None]:
    """Return a file's state dict, what else it says of the model, and the key of a training checkpoint it was under."""
    with open(path, "rb") as file:
        start = file.read(9)
    if start[8:9] == b"{" or path.suffix == ".safetensors":  # a pickle under that name is refused
        facts: dict[str, Any] = dict(read_header(path).metadata)
        return load_file(path), facts, None
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise DitError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    facts, keys = {}, [*_weight_keys(weights), *_weight_keys(_OTHER[weights])]
    key = next((key for key in keys if isinstance(content.get(key), dict)), None)
    if key is not None:
        args = content.get("args")
        facts = vars(args) if hasattr(args, "__dict__") else dict(args) if isinstance(args, dict) else {}
        content = content[key]
    if other := [str(key) for key, value in content.items() if not isinstance(value, Tensor)]:
        raise DitError(f"{path}: expected tensors only, found {', '.join(other[:5])}")
    return content, facts, key


def _weight_keys(weights: str) -> list[str]:
    """Return the keys of training checkpoints under which the averaged or the raw weights are, of all layouts."""
    layouts = (layout for family in FAMILIES.values() for layout in family.layouts)
    return list(dict.fromkeys(key for layout in layouts for key in layout.weights[weights]))


def check_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights of several types or of one that is no weight's, and NaN and infinity.

    Raises:
        DitError: naming the file and the types or tensors.
    """
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES.values()):
        raise DitError(
            f"{path}: expected tensors of one type, float32, float16 or bfloat16, found {', '.join(map(str, dtypes))}"
        )
    check_finite(path, tensors)


def _describe(
    path: Path,
    tensors: Mapping[str, Tensor],
    family: Family,
    layout: Layout,
    facts: Mapping[str, Any],
    options: ReadOptions,
    notices: list[str],
) -> tuple[FolderConfig, Path | None]:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        model = describe_network(family, shapes, options.model)
    except DitError as error:
        raise type(error)(f"{path}: {error}") from None
    arguments = model.arguments
    process = _process(path, layout, facts, options, arguments, notices)
    latents, autoencoder_folder = _latents(layout, facts, options, arguments, notices)
    if "guidance" in layout.sampling:
        notices.append(
            "its sampling defaults were published for one of its sizes; for another the best guidance may differ"
        )
    labels = imagenet_labels(arguments.num_classes)
    if labels:
        notices.append("its 1000 classes were given the names of ImageNet")
    config = FolderConfig(
        model=model,
        process=process,
        latents=latents,
        sampling=SamplingConfig.model_validate(layout.sampling) if layout.sampling else default_sampling(process),
        id2label=labels,
        provenance=Provenance(converted_from=path.name),
        plugins=loaded_plugins(),
    )
    return config, autoencoder_folder


def _process(
    path: Path,
    layout: Layout,
    facts: Mapping[str, Any],
    options: ReadOptions,
    arguments: Arguments,
    notices: list[str],
) -> ProcessConfig:
    known = {entry.name: entry for entry in layout.trained_for}
    if options.process not in (None, *known):
        raise ConfigError(f"--process: expected {' or '.join(known)}, found {options.process}")
    told = [entry.name for entry in known.values() if str(facts.get("model", "")).startswith(entry.models or "?")]
    told = told or (list(known) if len(known) == 1 else [])  # the names alone tell it
    if told and options.process not in (None, *told):
        raise ConfigError(f"--process: expected {told[0]}, as {path.name} tells, found {options.process}")
    name = told[0] if told else options.process
    if name is None:
        name, *others = known
        other = " or ".join(f"--process {entry} for {known[entry].kind}" for entry in others)
        notices.append(f"its process is not told, and taken to be {name}, that of {known[name].kind}; give {other}")
    for key, expected in known[name].args.items():
        if key in facts and str(facts[key]).lower() not in expected:
            raise DitError(
                f"{path}: args.{key}: expected {expected[0]}, as {known[name].kind} was published, found {facts[key]!r}"
            )
    process = published_process(layout, name, arguments)
    assert process is not None
    return process


def _normalised_by(
    latents: LatentsDescription, path: Path, tensors: Mapping[str, Tensor], names: tuple[str, ...]
) -> LatentsDescription:
    """Return a description of latents that are normalised by the mean and the variance of these names, each (C,)."""
    found = {name: tensors[name] for name in names if name in tensors}
    check_tensors(path, {name: torch.empty(latents.latent_channels, device="meta") for name in names}, found)
    check_weights(path, found)
    mean, variance = (found[name].double() for name in names)
    if not (variance > 0).all():
        raise DitError(f"{path}: {names[1]}: expected positive numbers, found {variance.min().item():g}")
    return latents.model_copy(update={"scale": tuple(variance.rsqrt().tolist()), "shift": tuple(mean.tolist())})


def _latents(
    layout: Layout, facts: Mapping[str, Any], options: ReadOptions, arguments: Arguments, notices: list[str]
) -> tuple[LatentsDescription | None, Path | None]:
    if options.vae:
        return describe_autoencoder(options.vae, arguments.in_channels)
    usual_channels = type(arguments).model_fields["in_channels"].default
    if layout.vae is None or (arguments.in_channels, arguments.num_classes) != (usual_channels, NUM_IMAGENET_CLASSES):
        notices.append("its autoencoder is not known, so no images can be made; give --vae")
        return None, None
    vae = SD_AUTOENCODERS.get(str(facts.get("vae")), layout.vae)
    notices.append(f"the autoencoder is taken to be {vae}; give --vae if it is another")
    return describe_autoencoder(vae, arguments.in_channels)
