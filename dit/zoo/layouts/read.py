"""Reading what is not a native folder: a single file, or a folder for diffusers. Nothing else is looked up."""

from pathlib import Path

from dit.zoo.folder.run import described_by
from dit.zoo.folder.safetensors_file import is_pickle, read_header
from dit.zoo.layouts.custom import read_custom
from dit.zoo.layouts.custom_folder import is_custom
from dit.zoo.layouts.diffusers import is_diffusers, read_diffusers
from dit.zoo.layouts.original import METADATA_KEY, ForeignModel, ReadOptions, read_state_file


def is_foreign(path: Path) -> bool:
    """Tell whether a path is of another layout than an exported folder's or a run's; their weight files are theirs."""
    if path.is_dir():
        return is_diffusers(path)
    return path.is_file() and not _belongs_to_a_folder(path)


def read_foreign(path: Path, options: ReadOptions) -> ForeignModel:
    """Read a file, or a folder in the layout of diffusers.

    Raises:
        ConfigError: something has to be given that it does not tell.
        DitError: it is not a model, or is damaged.
    """
    if path.is_dir():
        return read_custom(path, options) if is_custom(path) else read_diffusers(path, options)
    return read_state_file(path, options)


def _belongs_to_a_folder(path: Path) -> bool:
    """Tell whether a file is the weights of an exported folder or of a run, which say what it is."""
    with open(path, "rb") as file:
        start = file.read(9)
    if is_pickle(start) or path.suffix != ".safetensors":
        return False
    return METADATA_KEY not in read_header(path).metadata and described_by(path) is not None
