"""From one layout of a model to another: native, original and diffusers, in every direction.

Everything is read into our names and written from them, so that A -> B -> A gives the names, types and values back.
"""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

from dit.errors import ConfigError
from dit.files import TEMPORARY_PREFIX, fsync_tree, make_readable, new_folder
from dit.latents.autoencoder import find_autoencoder
from dit.latents.config import COPY_NAME
from dit.run_files import METRICS_NAME, RECIPE_NAME
from dit.zoo.cards.card import write_card
from dit.zoo.folder.config import FolderConfig, write_config
from dit.zoo.folder.safetensors_file import is_pickle, read_header
from dit.zoo.folder.weights import check_finite, check_names_and_shapes, empty_model, save_weights
from dit.zoo.layouts.diffusers import check_exportable, is_diffusers, read_diffusers, write_diffusers
from dit.zoo.layouts.original import METADATA_KEY, ForeignModel, ReadOptions, original_process, read_state_file
from dit.zoo.source import Located, has_description, locate

Layout = Literal["native", "official", "diffusers"]
OFFICIAL_SUFFIXES = (".safetensors", ".pt")
CARRIED_OVER = (RECIPE_NAME, METRICS_NAME, "eval.json", "samples.png", "loss.png", "failures.png")


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: Layout = "native",
    options: ReadOptions | None = None,
    max_shard_size: str | None = None,
) -> list[str]:
    """Read a model of any layout and write it in another.

    Args:
        source: zoo name, folder, file or Hub id; exported, run, original, training checkpoint or diffusers.
        target: new or empty folder; for `official` a new file ending in .safetensors or .pt.
        to: layout to write.
        options: what the source does not tell.
        max_shard_size: largest weight file of a folder, such as "5GB".

    Returns:
        What was decided or left out on the way, one line each.

    Raises:
        ConfigError: something has to be given, or the layout can't hold the model.
        DitError: the source is not a model, or is damaged.
    """
    target = Path(target)
    if to == "official":
        _check_official_target(target, max_shard_size)
    model = read_any(source, options or ReadOptions())
    if to == "official":
        write_official(model, target)
        return model.notices
    if to == "diffusers":
        check_exportable(model)
    with new_folder(target) as folder:
        write = write_native if to == "native" else write_diffusers
        write(model, folder, max_shard_size=max_shard_size)
        for path in model.carried_over:
            shutil.copyfile(path, folder / path.name)
        write_card(folder, source=str(target))
    return model.notices


def read_any(source: str | Path, options: ReadOptions) -> ForeignModel:
    """Read a model of any layout.

    Raises:
        ConfigError: there is no such source, or an option contradicts what it tells.
        DitError: it is not a model, or is damaged.
    """
    path = Path(source)
    if path.is_dir() and is_diffusers(path):
        return read_diffusers(path, options)
    if path.is_file() and not _belongs_to_a_folder(path):
        return read_state_file(path, options)
    if options != ReadOptions():
        given = [name for name in vars(options) if getattr(options, name) != getattr(ReadOptions(), name)]
        raise ConfigError(f"--{given[0]}: expected it left out, for {source} tells it itself")
    return _read_native(locate(source))


def write_native(model: ForeignModel, folder: Path, *, max_shard_size: str | None = None) -> None:
    """Write an exported folder's files, all but the card, into an existing empty folder."""
    save_weights(model.tensors, folder, "model", max_shard_size)
    write_config(folder, model.config)
    if model.autoencoder_folder is not None:
        find_autoencoder(str(model.autoencoder_folder)).copy(folder / COPY_NAME)


def write_official(model: ForeignModel, target: Path) -> None:
    """Write a flat state dict with the original's names; a safetensors file carries its description along."""
    tensors = {name: tensor.contiguous() for name, tensor in model.tensors.items()}
    config = model.config
    if model.autoencoder_folder is not None:
        model.notices.append("the autoencoder is not part of a single file: it was left out")
        config = config.model_copy(update={"latents": None})
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=target.parent) as folder:
        path = Path(folder) / target.name
        if target.suffix == ".pt":
            torch.save(tensors, path)
            _note_what_is_lost(config, model.notices)
        else:
            save_file(tensors, path, metadata={"format": "pt", METADATA_KEY: config.model_dump_json()})
        make_readable(folder)
        fsync_tree(folder)
        os.replace(path, target)


def _note_what_is_lost(config: FolderConfig, notices: list[str]) -> None:
    vae = f" --vae {config.latents.vae}" if config.latents else ""
    notices.append(f"a .pt file holds the weights alone: to read it takes --process {config.process.name}{vae}")
    told = original_process(config.process.name, config.process.learn_sigma).model_dump()
    differing = [name for name, value in config.process.model_dump().items() if told[name] != value]
    if differing:
        notices.append(
            "a .pt file can't be read back without loss, a .safetensors file can: it does not hold the process, which "
            f"differs from the original's in {', '.join(differing)}"
        )


def _check_official_target(target: Path, max_shard_size: str | None) -> None:
    if target.suffix not in OFFICIAL_SUFFIXES:
        raise ConfigError(f"{target}: expected a file ending in .safetensors or .pt for --to official")
    if target.exists():
        raise ConfigError(f"{target}: expected a new file, found one; choose another or remove it")
    if max_shard_size is not None:
        raise ConfigError("--max_shard_size: expected it left out, for --to official writes one file")


def _belongs_to_a_folder(path: Path) -> bool:
    """Tell whether a file is the weights of an exported folder or of a run, which say what it is."""
    with open(path, "rb") as file:
        start = file.read(9)
    if is_pickle(start) or path.suffix != ".safetensors":
        return False
    return METADATA_KEY not in read_header(path).metadata and has_description(path)


def _read_native(located: Located) -> ForeignModel:
    model = empty_model(located.config.model.name, located.config.model.arguments)
    check_names_and_shapes(located.weights, {name: tuple(t.shape) for name, t in model.state_dict().items()})
    tensors = {name: tensor for path in located.weights for name, tensor in load_file(path).items()}
    check_finite(located.folder, tensors)
    own = located.folder / COPY_NAME
    return ForeignModel(
        located.config,
        tensors,
        autoencoder_folder=own if own.is_dir() else None,
        carried_over=[path for name in CARRIED_OVER if (path := located.folder / name).is_file()],
    )
