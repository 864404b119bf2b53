"""The exported folder as a model in memory, and back."""

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

from dit.figures import FIGURES_NAME
from dit.latents.autoencoder import find_autoencoder
from dit.latents.config import COPY_NAME
from dit.models.lora import merge
from dit.run_files import METRICS_NAME, RECIPE_NAME
from dit.zoo.folder.config import FolderConfig, write_config
from dit.zoo.folder.weights import check_finite, check_header, empty_model, save_weights
from dit.zoo.layouts.original import ForeignModel

CARRIED_OVER = (RECIPE_NAME, METRICS_NAME, FIGURES_NAME, "samples.png", "loss.png", "failures.png")


def read_native(folder: Path, config: FolderConfig, weights: Sequence[Path]) -> ForeignModel:
    """Read an exported folder's or a run's weights, checked as when they are loaded.

    Raises:
        DitError: a tensor is missing, unexpected, of another shape or not finite.
    """
    model = empty_model(config.model)
    check_header(weights, model.state_dict())
    tensors = merge({name: tensor for path in weights for name, tensor in load_file(path).items()})
    check_finite(folder, tensors)
    own = folder / COPY_NAME
    return ForeignModel(
        config,
        tensors,
        autoencoder_folder=own if own.is_dir() else None,
        carried_over=[path for name in CARRIED_OVER if (path := folder / name).is_file()],
    )


def write_native(model: ForeignModel, folder: Path, *, max_shard_size: str | None = None) -> None:
    """Write an exported folder's files, all but the card, into an existing empty folder."""
    save_weights(model.tensors, folder, "model", max_shard_size)
    write_config(folder, model.config)
    if model.autoencoder_folder is not None:
        find_autoencoder(str(model.autoencoder_folder)).copy(folder / COPY_NAME)
