"""A single file with the original's names, written."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from dit.files import TEMPORARY_PREFIX, fsync_tree, make_readable
from dit.zoo.folder.config import FolderConfig
from dit.zoo.folder.weights import save_tensors
from dit.zoo.layouts.original import METADATA_KEY, ForeignModel, own_layout, published_process
from dit.zoo.layouts.table import from_native


def write_original(model: ForeignModel, target: Path) -> None:
    """Write a flat state dict with the original's names; a safetensors file carries its description along."""
    config = model.config
    named = from_native(model.tensors, own_layout(config)[1])
    tensors = {name: tensor.contiguous() for name, tensor in named.items()}
    if model.autoencoder_folder is not None:
        model.notices.append("the autoencoder is not part of a single file: it was left out")
        config = config.model_copy(update={"latents": None})
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=target.parent) as folder:
        path = Path(folder) / target.name
        if target.suffix == ".pt":
            with open(path, "wb") as file:  # given a path, torch reports a full disk without its reason
                torch.save(tensors, file)
            _note_what_is_lost(config, model.notices)
        else:
            save_tensors(tensors, path, {METADATA_KEY: config.model_dump_json()})
        make_readable(folder)
        fsync_tree(folder)
        os.replace(path, target)


def _note_what_is_lost(config: FolderConfig, notices: list[str]) -> None:
    vae = f" --vae {config.latents.vae}" if config.latents else ""
    layout, process = own_layout(config)[1], config.process
    known = {entry.name: published_process(layout, entry.name, config.model.arguments) for entry in layout.trained_for}
    name = next((name for name, published in known.items() if published == process), process.name)
    notices.append(f"a .pt file holds the weights alone: to read it takes --process {name}{vae}")
    told = published.model_dump() if (published := known.get(name)) else {}
    differing = [name for name, value in process.model_dump().items() if told.get(name) != value]
    if differing:
        notices.append(
            "a .pt file can't be read back without loss, a .safetensors file can: it does not hold the process, which "
            f"differs from the original's in {', '.join(differing)}"
        )
