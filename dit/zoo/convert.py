"""From one layout of a model to another: native, original and diffusers, in every direction.

Everything is read into our names and written from them, so that A -> B -> A gives the names, types and values back.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dit.errors import ConfigError
from dit.files import new_folder
from dit.zoo.cards.card import write_card
from dit.zoo.layouts.autoencoder_file import ForeignAutoencoder, read_content
from dit.zoo.layouts.custom import write_custom
from dit.zoo.layouts.diffusers import obstacle, write_diffusers
from dit.zoo.layouts.ldm_autoencoder import read_ldm_autoencoder
from dit.zoo.layouts.native import read_native, write_native
from dit.zoo.layouts.original import ForeignModel, ReadOptions, describe_autoencoder
from dit.zoo.layouts.original_file import write_original
from dit.zoo.layouts.rae_decoder import read_rae_decoder
from dit.zoo.layouts.read import is_foreign, read_foreign
from dit.zoo.source import locate

Layout = Literal["native", "original", "diffusers"]
ORIGINAL_SUFFIXES = (".safetensors", ".pt")
AUTOENCODERS = {
    read_ldm_autoencoder: ("weights", "model", "stats"),
    read_rae_decoder: ("model", "stats", "encoder"),
}
"""Readers of the files of autoencoders, and the options that each uses."""


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: Layout = "native",
    options: ReadOptions | None = None,
    max_shard_size: str | None = None,
) -> list[str]:
    """Read a model of any layout and write it in another, or an autoencoder's file and write diffusers' folder of it.

    Args:
        source: zoo name, folder, file or Hub id; exported, run, original, training checkpoint or diffusers.
        target: new or empty folder; for `original` a new file ending in .safetensors or .pt.
        to: layout to write.
        options: what the source does not tell.
        max_shard_size: largest weight file of a folder, such as "5GB".

    Returns:
        What was decided or left out on the way, one line each.

    Raises:
        ConfigError: something has to be given, or the layout can't hold the model.
        DitError: the source is not a model, or is damaged.
    """
    target, options = Path(target), options or ReadOptions()
    if to == "original":
        _check_original_target(target, max_shard_size)
    if (autoencoder := _read_autoencoder(Path(source), options)) is not None:
        if to == "original" or max_shard_size is not None:
            raise ConfigError(
                f"{source}: expected a network, found an autoencoder; leave out --to and --max_shard_size"
            )
        with new_folder(target) as folder:
            autoencoder.write(folder)
        return autoencoder.notices
    model = read_any(source, options)
    if to == "original":
        write_original(model, target)
        return model.notices
    write = write_native
    if to == "diffusers":
        reason = obstacle(model)
        write = write_diffusers if reason is None else write_custom
        if reason is not None:
            model.notices.append(f"DiTPipeline can't hold it ({reason}): the folder has code of its own, see its card")
    with new_folder(target) as folder:
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
    if is_foreign(Path(source)):
        return read_foreign(Path(source), options)
    if (others := replace(options, vae=None)) != ReadOptions():
        given = [name for name in vars(others) if vars(others)[name] != vars(ReadOptions())[name]]
        raise ConfigError(f"--{given[0]}: expected it left out, for {source} tells it itself")
    located = locate(source)
    if options.vae is None:
        return read_native(located.folder, located.config, located.weights)
    if located.config.latents is not None:
        raise ConfigError(f"--vae: expected it left out, for {source} tells it itself")
    latents, folder = describe_autoencoder(options.vae, located.config.model.arguments.in_channels)
    provenance = located.config.provenance.updated(autoencoder=None)
    config = located.config.model_copy(update={"latents": latents, "provenance": provenance})
    model = read_native(located.folder, config, located.weights)
    model.autoencoder_folder = folder
    return model


def _read_autoencoder(path: Path, options: ReadOptions) -> ForeignAutoencoder | None:
    """Read a file that holds an autoencoder; None where it is something else."""
    usual = vars(ReadOptions())
    given = [name for name, value in vars(options).items() if value != usual[name]]
    content = read_content(path) if path.is_file() and is_foreign(path) else {}
    for read, used in AUTOENCODERS.items():
        if (autoencoder := read(path, content, options)) is not None:
            if unused := [name for name in given if name not in used]:
                raise ConfigError(f"--{unused[0]}: expected it left out, for {path} is an autoencoder")
            return autoencoder
    asked = [f"--{name}" for name in ("stats", "encoder") if name in given]
    if asked or options.weights == "vae":
        raise ConfigError(f"{[*asked, '--weights vae'][0]}: expected a file with an autoencoder, found {path}")
    return None


def _check_original_target(target: Path, max_shard_size: str | None) -> None:
    if target.suffix not in ORIGINAL_SUFFIXES:
        raise ConfigError(f"{target}: expected a file ending in .safetensors or .pt for --to original")
    if target.exists():
        raise ConfigError(f"{target}: expected a new file, found one; choose another or remove it")
    if max_shard_size is not None:
        raise ConfigError("--max_shard_size: expected it left out, for --to original writes one file")
