"""Writing and reading the folder for diffusers with code of its own; see `dit.zoo.layouts.custom_folder`."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file

from dit.errors import ConfigError
from dit.files import write_json, write_text
from dit.latents.autoencoder import CONFIG_NAME
from dit.latents.codec import Codec
from dit.latents.config import COPY_NAME
from dit.latents.rae import RAE, STATISTICS
from dit.models.families import family_of
from dit.zoo.folder.config import FOREIGN_CONFIG_NAME, write_config
from dit.zoo.folder.weights import check_finite, check_header, empty_model, save_weights
from dit.zoo.layouts.custom_folder import (
    INDEX_NAME,
    NETWORK_CONFIG,
    SAMPLER_CONFIG,
    WEIGHTS_STEM,
    custom_weights,
    describe_custom,
)
from dit.zoo.layouts.original import ForeignModel, ReadOptions
from dit.zoo.layouts.standalone.files import CodeFile, network_file, pipeline_file, sampler_file

NONE = [None, None]
"""A part of a pipeline that is not there."""


def write_custom(model: ForeignModel, folder: Path, *, max_shard_size: str | None = None) -> None:
    """Write the folder that `DiffusionPipeline.from_pretrained` loads with `trust_remote_code=True`.

    Args:
        model: the model to write.
        folder: existing empty folder.
        max_shard_size: largest weight file, such as "5GB".

    Raises:
        ConfigError: its autoencoder is not known, or code of a plugin would have to go along.
    """
    config = model.config
    if config.latents is None:
        raise ConfigError("--to diffusers: expected a model whose autoencoder is known; give --vae")
    if config.sampling.guidance_routing is not None:
        raise ConfigError("--to diffusers: expected sampling without guidance_routing, which only this package has")
    samplings = [config.sampling, *([config.published] if config.published else [])]
    network = network_file(family_of(config.model.name))
    sampler, pipeline = sampler_file(config.process, *samplings), pipeline_file()
    for place, code in (("transformer", network), ("scheduler", sampler), (".", pipeline)):
        (folder / place).mkdir(exist_ok=True)
        write_text(folder / place / f"{code.module}.py", code.text)
    save_weights(model.tensors, folder / "transformer", WEIGHTS_STEM, max_shard_size)
    arguments = config.model.arguments.model_dump(mode="json")
    write_json(folder / NETWORK_CONFIG, _made_by(network) | arguments)
    settings = {"process": config.process, "sampling": config.sampling}
    described = {name: section.model_dump(mode="json") for name, section in settings.items()}
    write_json(folder / SAMPLER_CONFIG, _made_by(sampler) | described)
    has_autoencoder = config.latents.class_name != "Pixels"
    if has_autoencoder:
        own = {} if model.autoencoder_folder is None else {"vae": str(model.autoencoder_folder)}
        _write_autoencoder(Codec.from_description(config.latents.model_copy(update=own)), folder / COPY_NAME)
    index = {
        "_class_name": [pipeline.module, pipeline.class_name],
        "_diffusers_version": version("diffusers"),
        "transformer": [network.module, network.class_name],
        "scheduler": [sampler.module, sampler.class_name],
        "vae": ["diffusers", config.latents.class_name] if has_autoencoder else NONE,
        "guide": NONE,
        "id2label": config.id2label,
        "latent_space": config.latents.model_dump(mode="json"),
    }
    write_json(folder / INDEX_NAME, index)
    write_config(folder, config, name=FOREIGN_CONFIG_NAME)


def read_custom(folder: Path, options: ReadOptions) -> ForeignModel:
    """Read such a folder.

    Raises:
        ConfigError: an option is given, for it tells everything itself.
        DitError: something is missing or damaged.
    """
    given = [name for name, value in vars(options).items() if value != vars(ReadOptions())[name]]
    if given:
        raise ConfigError(f"--{given[0]}: expected it left out, for {folder} tells it itself")
    config, weights = describe_custom(folder), custom_weights(folder)
    check_header(weights, empty_model(config.model).state_dict())
    tensors = {name: tensor for path in weights for name, tensor in load_file(path).items()}
    check_finite(folder, tensors)
    is_own = config.latents is not None and config.latents.vae == COPY_NAME
    return ForeignModel(config, tensors, autoencoder_folder=folder / COPY_NAME if is_own else None)


def _write_autoencoder(codec: Codec, folder: Path) -> None:
    """Copy an autoencoder; statistics of every position, which its file holds, go into its configuration, too.

    By their shape there diffusers knows that of the tensors in the file.
    """
    codec.folder.copy(folder)
    if not isinstance(codec.autoencoder, RAE):
        return
    if codec.per_channel is not None:
        raise ConfigError(
            "--to diffusers: expected latents normalised by the statistics in the autoencoder's file, as its class in "
            "diffusers does, found scale and shift in their place"
        )
    found: dict[str, Any] = {}
    for path in codec.folder.weights():
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                found |= {name[1:]: file.get_tensor(name).tolist() for name in STATISTICS if name in file.keys()}  # noqa: SIM118
    write_json(folder / CONFIG_NAME, codec.folder.config() | found)


def _made_by(code: CodeFile) -> dict[str, Any]:
    return {"_class_name": code.class_name, "_diffusers_version": version("diffusers")}
