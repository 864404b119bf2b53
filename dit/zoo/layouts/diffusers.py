"""The folder of diffusers' DiTPipeline, read and written without importing diffusers for the network.

    model_index.json    {transformer, vae, scheduler, id2label}
    transformer/        config.json, diffusion_pytorch_model.safetensors
    vae/, scheduler/

What the pipeline fixes, and how a model of ours becomes one:
- the null class is 1000: the table gets 1001 rows, classes first, zeros between, the null row last;
- latents are divided by one `scaling_factor` before the decoder: any other normalisation, latents = (z - shift) * scale
  per channel, is folded into the 1x1 convolutions beside the latent space;
- its time frequencies are 10000^(-i/127), ours 10000^(-i/128); no weights undo that for all steps;
- its second LayerNorm has eps 1e-5 unless `norm_eps` says 1e-6;
- it samples by epsilon: a flow model is not for it, and gets a folder with code of its own
  (`dit.zoo.layouts.custom`), as every model that it can't hold.

K classes, D width.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from dit.diffusion.config import GaussianConfig
from dit.errors import ConfigError, DitError
from dit.files import read_json, write_json
from dit.latents.codec import Codec
from dit.layers.position import sincos_2d
from dit.models import dit
from dit.models.dit.arguments import DiTArguments
from dit.models.dit.layouts import DIFFUSERS
from dit.models.families import family_of
from dit.tensors import check_tensors
from dit.zoo.folder.config import (
    FOREIGN_CONFIG_NAME,
    FolderConfig,
    Provenance,
    read_config,
    write_config,
)
from dit.zoo.folder.safetensors_file import weight_files
from dit.zoo.folder.weights import check_finite, empty_model, save_weights
from dit.zoo.layouts.architecture import describe_network
from dit.zoo.layouts.diffusers_autoencoder import NO_PLACE, can_fold, write_autoencoder
from dit.zoo.layouts.original import (
    ForeignModel,
    ReadOptions,
    default_sampling,
    describe_autoencoder,
    imagenet_labels,
)
from dit.zoo.layouts.table import from_native, to_native

INDEX_NAME = "model_index.json"
WEIGHTS_STEM = "diffusion_pytorch_model"
CLASS_NAMES = ("DiTTransformer2DModel", "Transformer2DModel")
NULL_ROW = 1000
LABEL_TABLE = "y_embedder.embedding_table.weight"
BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
LINEAR_RANGE = (1e-4, 0.02)
FIXED = {
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
    "upcast_attention": False,
    "norm_num_groups": 32,
    "dropout": 0.0,
}
"""What every DiT says in transformer/config.json."""


def is_diffusers(folder: str | Path) -> bool:
    """Tell whether a folder is that of a pipeline, or of a transformer alone."""
    folder = Path(folder)
    return (folder / INDEX_NAME).is_file() or _transformer_folder(folder) is not None


def read_diffusers(folder: str | Path, options: ReadOptions) -> ForeignModel:
    """Read the folder of a DiTPipeline, or of its transformer alone, for which `options` may name the autoencoder.

    Raises:
        DitError: it is not a DiT, lacks a file, holds only pickles, or is damaged; file and field are named.
    """
    folder = Path(folder)
    if options.model:
        raise ConfigError(f"--model.{next(iter(options.model))}: expected it left out, for {folder} tells it itself")
    transformer = _transformer_folder(folder)
    if transformer is None:
        raise DitError(f"{folder}: expected a DiTPipeline, found no transformer/config.json of class {CLASS_NAMES[0]}")
    config_path = transformer / "config.json"
    config = read_json(config_path)
    _check_fixed(config_path, config)
    tensors: dict[str, Tensor] = {}
    for path in weight_files(transformer, WEIGHTS_STEM):
        tensors |= load_file(path)
    try:
        native, _ = to_native(tensors, DIFFUSERS)
    except DitError as error:
        raise DitError(f"{transformer}: {error}") from None
    labels = _read_labels(folder)
    native[LABEL_TABLE], num_classes = table_without_gap(native[LABEL_TABLE], len(labels))
    native["pos_embed"] = _positions(config_path, config, native["x_embedder.proj.weight"])
    shapes = {name: tuple(tensor.shape) for name, tensor in native.items()}
    told = {"num_heads": _integer(config_path, config, "num_attention_heads"), "num_classes": num_classes}
    model = describe_network(dit.FAMILY, shapes, told)
    check_finite(transformer, native)
    arguments = cast(DiTArguments, model.arguments)
    process = _read_process(folder, arguments.learn_sigma)
    vae = options.vae or (str(folder / "vae") if (folder / "vae").is_dir() else None)
    known = read_config(folder, name=FOREIGN_CONFIG_NAME) if (folder / FOREIGN_CONFIG_NAME).is_file() else None
    latents, autoencoder_folder = describe_autoencoder(vae, arguments.in_channels) if vae else (None, None)
    result = FolderConfig(
        model=model,
        process=process,
        latents=latents,
        sampling=known.sampling if known else default_sampling(process),
        published=known.published if known else None,
        id2label=labels or imagenet_labels(arguments.num_classes),
        provenance=known.provenance if known else Provenance(converted_from=folder.name),
    )
    check_tensors(transformer, empty_model(model).state_dict(), native)
    return ForeignModel(result, native, autoencoder_folder=autoencoder_folder)


def write_diffusers(model: ForeignModel, folder: Path, *, max_shard_size: str | None = None) -> None:
    """Write the folder that `DiTPipeline.from_pretrained` loads.

    Args:
        model: the model to write.
        folder: existing empty folder.
        max_shard_size: largest weight file, such as "5GB".

    Raises:
        ConfigError: the pipeline can't hold this model; the reason is given.
    """
    if (reason := obstacle(model)) is not None:
        raise ConfigError(f"--to diffusers: DiTPipeline can't hold this model: {reason}")
    process = model.config.process
    assert isinstance(process, GaussianConfig)
    codec = _codec_of(model)
    arguments = cast(DiTArguments, model.config.model.arguments)
    tensors = {name: tensor for name, tensor in model.tensors.items() if name != "pos_embed"}
    tensors[LABEL_TABLE] = table_with_gap(tensors[LABEL_TABLE], arguments.num_classes)
    (folder / "transformer").mkdir()
    write_json(folder / "transformer" / "config.json", _transformer_config(arguments))
    save_weights(from_native(tensors, DIFFUSERS), folder / "transformer", WEIGHTS_STEM, max_shard_size)
    write_autoencoder(codec, folder / "vae")
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / "scheduler_config.json", _scheduler_config(process))
    write_json(folder / INDEX_NAME, _index(model.config, codec.class_name))
    write_config(folder, model.config, name=FOREIGN_CONFIG_NAME)


def obstacle(model: ForeignModel) -> str | None:
    """Return why DiTPipeline can't hold a model; None where it can."""
    family, arguments = family_of(model.config.model.name), cast(DiTArguments, model.config.model.arguments)
    if DIFFUSERS not in family.layouts:
        return f"it is a {family.name}, which it lacks"
    if not isinstance(model.config.process, GaussianConfig):
        return f"it samples by epsilon with a DDPM schedule, and this model's process is {model.config.process.name}"
    height, width = arguments.input_size
    pos_embed = model.tensors["pos_embed"]
    positions = sincos_2d(arguments.hidden_size, arguments.grid_size)[None].to(pos_embed.dtype)  # (1, T, D)
    reasons = {
        "its autoencoder is not known": model.config.latents is None,
        f"its betas are linear or cosine, and this model's {model.config.process.betas}": (
            model.config.process.betas not in BETAS
        ),
        f"its steps count from 0, and this model's from {model.config.process.first_step}": (
            model.config.process.first_step != 0
        ),
        f"its images are square, and this model's latents are {height}x{width}": height != width,
        f"its null class is {NULL_ROW}, and this model has {arguments.num_classes} classes": (
            arguments.num_classes > NULL_ROW
        ),
        f"its MLP is 4 times as wide as the tokens, and this model's {arguments.mlp_ratio:g} times": (
            arguments.mlp_ratio != 4
        ),
        "its queries and keys are not normalised, and this model's are": arguments.qk_norm,
        "its position embedding is computed, and this model's is another": not torch.equal(pos_embed, positions),
    }
    found = next((reason for reason, is_so in reasons.items() if is_so), None)
    return found or (None if can_fold(_codec_of(model)) else NO_PLACE)


def _codec_of(model: ForeignModel) -> Codec:
    assert model.config.latents is not None
    own = {} if model.autoencoder_folder is None else {"vae": str(model.autoencoder_folder)}
    return Codec.from_description(model.config.latents.model_copy(update=own))


def table_with_gap(table: Tensor, num_classes: int) -> Tensor:
    """Move the null row to 1000: (K or K + 1, D) to (1001, D), zeros between.

    An unconditional model has the null row everywhere, since the pipeline always asks for a class. Where there is no
    null row it stays zero, and such a model can't be guided.
    """
    wide = table.new_zeros(NULL_ROW + 1, table.shape[1])
    if num_classes == 0:
        wide[:] = table[0]
    wide[:num_classes] = table[:num_classes]
    if len(table) > num_classes:
        wide[NULL_ROW] = table[num_classes]
    return wide


def table_without_gap(table: Tensor, num_labels: int = 0) -> tuple[Tensor, int]:
    """Undo `table_with_gap`: (N + 1, D) to (K or K + 1, D), and K.

    Args:
        table: the last row is the null class; rows of zeros before it are no classes.
        num_labels: number of class names; there are at least as many classes.
    """
    classes, null = table[:-1], table[-1:]
    if len(classes) and (classes == null).all():
        return null.clone(), 0
    used = classes.any(dim=1).nonzero()
    num_classes = max(num_labels, int(used.max()) + 1 if len(used) else 0)
    rows = classes[:num_classes]
    return torch.cat([rows, null]) if null.any() else rows.clone(), num_classes


def _transformer_folder(folder: Path) -> Path | None:
    for candidate in (folder / "transformer", folder):
        path = candidate / "config.json"
        if path.is_file():
            config = read_json(path)
            if isinstance(config, dict) and config.get("_class_name") in CLASS_NAMES:
                return candidate
    return None


def _check_fixed(path: Path, config: Mapping[str, Any]) -> None:
    for key in ("norm_type", "activation_fn", "norm_elementwise_affine"):
        if config.get(key, FIXED[key]) != FIXED[key]:
            raise DitError(f"{path}: {key}: expected {FIXED[key]!r}, as every DiT has, found {config[key]!r}")


def _integer(path: Path, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= 65536:
        raise DitError(f"{path}: {key}: expected a whole number, found {value!r}")
    return value


def _positions(path: Path, config: Mapping[str, Any], patches: Tensor) -> Tensor:
    """Return the position embedding (1, T, D) that diffusers computes for patches (D, C, p, p)."""
    width, _, patch, _ = patches.shape
    side = _integer(path, config, "sample_size") // patch
    return sincos_2d(width, (side, side))[None].to(patches.dtype)


def _read_labels(folder: Path) -> dict[str, str]:
    path = folder / INDEX_NAME
    labels = read_json(path).get("id2label") if path.is_file() else None
    if labels is None:
        return {}
    if not isinstance(labels, dict) or not all(
        key.isdecimal() and isinstance(name, str) for key, name in labels.items()
    ):
        raise DitError(f"{path}: id2label: expected class ids and names")
    return labels


def _read_process(folder: Path, learn_sigma: bool) -> GaussianConfig:
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return GaussianConfig(learn_sigma=learn_sigma)
    config = read_json(path)
    config = {
        "num_train_timesteps": 1000, "beta_schedule": "linear", "prediction_type": "epsilon",
        "beta_start": LINEAR_RANGE[0], "beta_end": LINEAR_RANGE[1], **config,
    }  # fmt: skip
    beta_range = config["beta_start"], config["beta_end"]
    num_steps = _integer(path, config, "num_train_timesteps")
    betas = next((ours for ours, theirs in BETAS.items() if theirs == config["beta_schedule"]), None)
    is_linear = betas == "linear" and beta_range == _scaled_range(num_steps)
    is_known = (is_linear or betas == "cosine") and not config.get("trained_betas")
    if not is_known or config["prediction_type"] != "epsilon":
        raise DitError(
            f"{path}: expected epsilon with linear betas from {LINEAR_RANGE[0]} to {LINEAR_RANGE[1]} or cosine ones, "
            f"found {config['prediction_type']} with {config['beta_schedule']} from {beta_range}"
        )
    return GaussianConfig(betas="linear" if is_linear else "cosine", num_steps=num_steps, learn_sigma=learn_sigma)


def _scaled_range(num_steps: int) -> tuple[float, float]:
    return 1000 / num_steps * LINEAR_RANGE[0], 1000 / num_steps * LINEAR_RANGE[1]


def _transformer_config(arguments: DiTArguments) -> dict[str, Any]:
    channels = arguments.in_channels
    return {
        "_class_name": CLASS_NAMES[0],
        "_diffusers_version": version("diffusers"),
        "num_attention_heads": arguments.num_heads,
        "attention_head_dim": arguments.hidden_size // arguments.num_heads,
        "in_channels": channels,
        "out_channels": channels * (2 if arguments.learn_sigma else 1),
        "num_layers": arguments.depth,
        "sample_size": arguments.input_size[0],
        "patch_size": arguments.patch_size,
        "num_embeds_ada_norm": NULL_ROW,
        "norm_eps": 1e-6,
        **FIXED,
    }


def _scheduler_config(process: GaussianConfig) -> dict[str, Any]:
    beta_start, beta_end = _scaled_range(process.num_steps)
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": version("diffusers"),
        "num_train_timesteps": process.num_steps,
        "beta_schedule": BETAS[process.betas],
        "beta_start": beta_start,
        "beta_end": beta_end,
        "trained_betas": None,
        "prediction_type": "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "leading",
    }


def _index(config: FolderConfig, vae_class: str) -> dict[str, Any]:
    return {
        "_class_name": "DiTPipeline",
        "_diffusers_version": version("diffusers"),
        "id2label": config.id2label,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "transformer": ["diffusers", CLASS_NAMES[0]],
        "vae": ["diffusers", vae_class],
    }
