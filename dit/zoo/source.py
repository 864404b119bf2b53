"""Where a model's parts are: a source, as users write it, becomes a description and files on the disk.

A source is a zoo name (`dit_ti_2.mnist`), a run folder, an exported folder, a `.safetensors` file of either, or a Hub
id `org/name[@revision]`. Free of torch, so that `dit info` can say what is wrong with a source without paying for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dit.checkpoint import load_newest
from dit.display import warn
from dit.errors import ConfigError, DitError, did_you_mean
from dit.hub_ids import HubId
from dit.models.families import variants
from dit.run_files import RunFiles, is_run
from dit.zoo.entries import entries
from dit.zoo.folder.adapter import ADAPTER_NAME, check_adapter, find_adapter
from dit.zoo.folder.config import FolderConfig, is_exported, known_setting, read_config
from dit.zoo.folder.run import describe_run, described_by
from dit.zoo.folder.safetensors_file import files_of, names_in, weight_files
from dit.zoo.hub.pull import fetch
from dit.zoo.layouts.custom_folder import custom_weights, describe_custom, is_custom

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Located:
    """A source that was found."""

    folder: Path
    """The exported folder or the run folder."""
    config: FolderConfig
    """What the weights are for."""
    weights: list[Path]
    """The safetensors file, all shards, or a file and what goes over it; none of what is only described."""
    tensors: "Mapping[str, Tensor] | None" = None
    """The weights themselves, where they were read from a file of another kind."""


def locate(
    source: str | Path, revision: str | None = None, *, published: bool = False, adapter: str | Path | None = None
) -> Located:
    """Find a source's description and weights.

    Args:
        source: zoo name, folder, file or Hub id.
        revision: branch, tag or commit of a Hub id.
        published: put the published setting in place of the sampling defaults.
        adapter: file, or folder, of what goes over the weights; where its folder describes it, that holds.

    Raises:
        ConfigError: there is nothing of that name, near zoo names are suggested; or it has no published setting.
        DitError: what is there is not a model, or is damaged; or the adapter is another model's.
    """
    file = None if adapter is None else find_adapter(adapter)  # before anything is downloaded
    if published and str(source) in entries():
        known_setting(entries()[str(source)].published, source)  # before anything is downloaded
    located = _locate(source, revision)
    if file is not None:
        located = _with_adapter(located, file, str(source))
    return replace(located, config=located.config.as_published(source)) if published else located


def _locate(source: str | Path, revision: str | None) -> Located:
    path = Path(source)
    if str(source) in entries():
        located = _locate_folder(fetch(str(source), revision=revision))
        of_entry = {"published": entries()[str(source)].published}  # the cache may be older than the entry
        return replace(located, config=located.config.model_copy(update=of_entry))
    if path.is_dir():
        return _locate_folder(path)
    if path.is_file():
        return _locate_file(path)
    if HubId.parse(str(source), revision) is not None:
        return _locate_folder(fetch(str(source), revision=revision))
    if str(source) in variants():
        raise ConfigError(f"{source}: expected weights, found the name of an architecture; dit models --pretrained")
    raise ConfigError(
        f"{source}: expected a zoo name, a folder, a .safetensors file or a Hub id, found nothing."
        f"{did_you_mean(str(source), entries())}"
    )


def _locate_folder(folder: Path) -> Located:
    if is_exported(folder):
        config = read_config(folder)
        if config.adapter_of is not None:
            return _with_adapter(_locate(config.adapter_of, None), folder / ADAPTER_NAME, config.adapter_of)
        return Located(folder, config, weight_files(folder))
    if is_run(folder):
        checkpoints = RunFiles(folder).checkpoints
        checkpoint = load_newest(checkpoints)
        if checkpoint is None:
            raise DitError(f"{checkpoints}: expected a checkpoint, found none; train longer")
        for problem in checkpoint.passed_over:
            warn(f"an older checkpoint is taken: {problem}")
        average = weight_files(checkpoint.path, "ema")
        return Located(folder, describe_run(folder, checkpoint), _with_frozen(average))
    if is_custom(folder):
        return Located(folder, describe_custom(folder), custom_weights(folder))
    raise DitError(
        f"{folder}: expected an exported folder or a run folder, found neither config.json nor run.json; "
        "other formats are read by `dit convert`"
    )


def _with_adapter(base: Located, file: Path, source: str) -> Located:
    """Put an adapter over weights, whose source a message names; what its own folder says of it goes before theirs."""
    check_adapter(file, base.weights, source)
    weights = [*base.weights, file]
    if is_exported(file.parent) and (config := read_config(file.parent)).adapter_of is not None:
        return Located(file.parent, config.model_copy(update={"adapter_of": None}), weights)
    return replace(base, weights=weights)


def _locate_file(path: Path) -> Located:
    if path.suffix != ".safetensors":
        raise DitError(f"{path}: expected a .safetensors file; other formats are read by `dit convert`")
    if folder := described_by(path):
        if path.name == ADAPTER_NAME:
            return _locate_folder(folder)
        if is_exported(folder):
            return Located(folder, read_config(folder), files_of(path))
        return Located(folder, describe_run(folder), _with_frozen(files_of(path)))
    raise DitError(
        f"{path}: expected a file of an exported folder or of a run, found no config.json or run.json near it; "
        "`dit convert` makes an exported folder of it"
    )


def _with_frozen(files: list[Path]) -> list[Path]:
    """Return a checkpoint's file, or its parts, after the network's where they hold no more than what is trained of it.

    Files of the network's own name stay as they are.
    """
    whole = [path for path in files[0].parent.glob("model*.safetensors") if path not in files]
    if names_in(files) < names_in(whole):
        return [*files_of(min(whole)), *files]
    return files
