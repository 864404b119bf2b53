"""Encoders by name.

A name is `timm/MODEL`, or a folder or Hub id that holds a DINOv2 with registers, such as the published
`facebook/dinov2-with-registers-base`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dit.encoders.encoder import Encoder, Preparation
from dit.errors import ConfigError, DitError, did_you_mean
from dit.files import read_json
from dit.hub_files import download
from dit.hub_ids import HubId

TIMM = "timm/"
IMAGE_SIZE = 224
PATCHES = "embeddings.patch_embeddings.projection.weight"
_FILES = ("config.json", "model.safetensors")


def load_encoder(
    name: str,
    device: str | torch.device | None = None,
    *,
    field: str = "encoder",
    grid: tuple[int, int] | None = None,
) -> Encoder:
    """Load an encoder in eval mode, without gradients.

    Args:
        name: `timm/MODEL`, a folder or a Hub id.
        device: where to compute; the CPU by default.
        field: what a message calls the name.
        grid: rows and columns of patches that images are resized to, by a bicubic filter that does not widen where
            they shrink; the size of the encoder's own training, with one that does, by default.

    Raises:
        ConfigError: there is no such encoder.
        DitError: its weights can't be had or are damaged.
    """
    if name.startswith(TIMM):
        return _timm(name, field, grid).to(device or "cpu")
    from dit.encoders.dinov2 import dinov2

    tensors, num_heads = read_dinov2(name, field=field)
    preparation = Preparation((IMAGE_SIZE, IMAGE_SIZE))
    if grid is not None and PATCHES in tensors:
        preparation = Preparation(_size_of(grid, tensors[PATCHES].shape[-2:]), antialias=False)
    return dinov2(name, tensors, preparation, num_heads=num_heads).to(device or "cpu")


def read_dinov2(name: str, *, field: str = "encoder") -> tuple[dict[str, Tensor], int | None]:
    """Read the tensors of a DINOv2 with registers by the names of its file, and its number of heads.

    Args:
        name: a folder or a Hub id.
        field: what a message calls the name.

    Raises:
        ConfigError: there is no such folder, and it is no Hub id.
        DitError: the files are missing or damaged.
    """
    folder, hub_id = Path(name).expanduser(), HubId.parse(name)
    if not folder.is_dir():
        if hub_id is None:
            raise ConfigError(
                f"{field}: expected a folder or a Hub id org/name[@revision] of a DINOv2 with registers, found {name!r}"
            )
        folder, _ = download(hub_id, _FILES)
    config = read_json(folder / _FILES[0])
    try:
        tensors = load_file(folder / _FILES[1])
    except (OSError, SafetensorError) as error:
        raise DitError(f"{folder / _FILES[1]}: expected the weights of an encoder, found {error}") from None
    heads = config.get("num_attention_heads") if isinstance(config, dict) else None
    return tensors, heads if type(heads) is int and heads > 0 else None


def _size_of(grid: tuple[int, int], patch: Sequence[int]) -> tuple[int, int]:
    return grid[0] * patch[0], grid[1] * patch[1]


def _timm(name: str, field: str, grid: tuple[int, int] | None) -> Encoder:
    import timm
    from timm.data import resolve_model_data_config  # pyright: ignore[reportPrivateImportUsage]

    model_name = name.removeprefix(TIMM)
    if not timm.is_model(model_name):
        raise ConfigError(
            f"{field}: expected timm/MODEL, found no timm model {model_name!r}."
            f"{did_you_mean(model_name, timm.list_models())}"
        )
    try:
        network: Any = timm.create_model(model_name, pretrained=True)
    except (OSError, RuntimeError) as error:
        problem = (str(error).splitlines() or [""])[0]
        raise DitError(
            f"{name}: expected its weights on the Hub or in the cache; {type(error).__name__}: {problem}"
        ) from error
    data = resolve_model_data_config(network)
    preparation = Preparation(tuple(data["input_size"][1:]), tuple(data["mean"]), tuple(data["std"]))
    if grid is None:
        return Encoder(name, network, preparation)
    if not hasattr(network, "set_input_size"):
        raise ConfigError(f"{field}: expected a vision transformer, whose image size can be set, found {name}")
    size = _size_of(grid, network.patch_embed.patch_size)
    network.set_input_size(img_size=size)
    return Encoder(name, network, replace(preparation, size=size, antialias=False))
