"""A folder for diffusers with code of its own, read from its weights and its configuration; the code is never run.

    model_index.json    the classes and their files; id2label; latent_space: the description of the latents
    transformer/        config.json with the network's arguments, weights by our names, code
    scheduler/          scheduler_config.json with process and sampling, code
    vae/                a class of diffusers; none for pixels
    pipeline_*.py       code
    dit_config.json     what only this package asks for; a folder that diffusers saved again lacks it

Free of torch.
"""

import json
from pathlib import Path
from typing import Any

from dit.errors import DitError
from dit.files import read_json
from dit.latents.config import COPY_NAME
from dit.models.families import FAMILIES, arguments_of
from dit.models.family import Family
from dit.validation import validate
from dit.zoo.folder.config import FOREIGN_CONFIG_NAME, FORMAT_VERSION, FolderConfig, read_config
from dit.zoo.folder.safetensors_file import weight_files
from dit.zoo.layouts.standalone.files import PIPELINE, network_class_name

INDEX_NAME = "model_index.json"
NETWORK_CONFIG = "transformer/config.json"
SAMPLER_CONFIG = "scheduler/scheduler_config.json"
WEIGHTS_STEM = "diffusion_pytorch_model"


def is_custom(folder: str | Path) -> bool:
    """Tell whether a folder is one for diffusers with code of its own, as `dit convert` writes it."""
    path = Path(folder) / INDEX_NAME
    if not path.is_file():
        return False
    name = _mapping(path).get("_class_name")
    return (name[-1] if isinstance(name, list) and name else name) == PIPELINE


def custom_weights(folder: str | Path) -> list[Path]:
    """Return the files of the network's weights.

    Raises:
        DitError: there are none, or they are damaged.
    """
    return weight_files(Path(folder) / "transformer", WEIGHTS_STEM)


def describe_custom(folder: str | Path) -> FolderConfig:
    """Return what the configuration of such a folder says of the model.

    Raises:
        DitError: naming the file and the field.
    """
    folder = Path(folder)
    index, network, sampler = (_mapping(folder / name) for name in (INDEX_NAME, NETWORK_CONFIG, SAMPLER_CONFIG))
    family = _family(folder / NETWORK_CONFIG, network.get("_class_name"))
    arguments = {key: value for key, value in network.items() if not key.startswith("_")}
    known = read_config(folder, FOREIGN_CONFIG_NAME) if (folder / FOREIGN_CONFIG_NAME).is_file() else None
    content = {
        "format_version": FORMAT_VERSION,
        "model": {"name": _variant(family, arguments), "arguments": arguments},
        "process": sampler.get("process"),
        "sampling": sampler.get("sampling"),
        "latents": index.get("latent_space"),
        "id2label": index.get("id2label") or {},
    }
    config = validate(FolderConfig, content, origin=str(folder))
    if known is not None:
        return config.model_copy(update={name: getattr(known, name) for name in ("published", "provenance")})
    if config.latents is None or not (folder / COPY_NAME).is_dir():
        return config
    own = {"vae": COPY_NAME, "revision": None, "fingerprint": None}  # diffusers may have trained it, too
    return config.model_copy(update={"latents": config.latents.model_copy(update=own)})


def _mapping(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DitError(f"{path}: expected an object, found {type(content).__name__}")
    return content


def _family(path: Path, class_name: Any) -> Family:
    known = {network_class_name(family): family for family in FAMILIES.values()}
    if class_name not in known:
        raise DitError(f"{path}: _class_name: expected one of {', '.join(known)}, found {class_name!r}")
    return known[class_name]


def _variant(family: Family, arguments: dict[str, Any]) -> str:
    """Return the first variant of which this is one for other data, or the family's name."""
    for name in family.variants:
        standard = json.loads(arguments_of(name).model_dump_json(exclude=set(family.arguments.fitted)))
        if all(arguments.get(key) == value for key, value in standard.items()):
            return name
    return family.name
