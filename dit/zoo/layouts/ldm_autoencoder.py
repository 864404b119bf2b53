"""KL autoencoders by the names of the latent-diffusion code (VA-VAE, REPA-E), turned into a folder as diffusers has it.

    encoder.down.{i}.{block,attn}.{j}, encoder.down.{i}.downsample, {encoder,decoder}.mid.{block_1,attn_1,block_2}
    decoder.up.{i}: the level that the encoder's i ends at, so that the last one comes first

Sizes are read off the shapes. Latents are normalised by a file of statistics, or by those of the batch norm between
autoencoder and network where both were trained together. A file may be a pickle, which only a conversion opens; the
folder is then taken by `latents.vae` and `--vae` as any other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dit.errors import ConfigError, DitError
from dit.files import write_json
from dit.latents.autoencoder import CONFIG_NAME, WEIGHTS_NAME
from dit.latents.kl import DOWN_BLOCK_TYPES, UP_BLOCK_TYPES, KLAutoencoder
from dit.models.layout import Shapes, count_blocks, expect_dimensions
from dit.tensors import check_tensors
from dit.zoo.folder.safetensors_file import read_header
from dit.zoo.folder.weights import save_tensors
from dit.zoo.layouts.original import ReadOptions, check_weights
from dit.zoo.layouts.pickle_file import load_pickle
from dit.zoo.layouts.table import strip_wrappers

MARKS = ("encoder.mid.block_1.conv1.weight", "decoder.mid.block_1.conv1.weight")
TRAINING_ONLY = ("loss.", "foundation_model.", "linear_proj.")
"""Beginnings of the names of what was trained beside the autoencoder."""
NUM_GROUPS = 32
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_PLACES = {
    ".block.": ".resnets.",
    ".attn.": ".attentions.",
    ".downsample.": ".downsamplers.0.",
    ".upsample.": ".upsamplers.0.",
    ".mid.block_1.": ".mid_block.resnets.0.",
    ".mid.block_2.": ".mid_block.resnets.1.",
    ".mid.attn_1.": ".mid_block.attentions.0.",
    ".nin_shortcut.": ".conv_shortcut.",
    ".norm_out.": ".conv_norm_out.",
}


@dataclass
class LdmAutoencoder:
    """An autoencoder in memory, by diffusers' names."""

    config: dict[str, Any]
    """Its config.json."""
    tensors: dict[str, Tensor]
    """Its weights."""
    notices: list[str] = field(default_factory=list)
    """What was decided or left out on the way, one line each."""

    def write(self, folder: Path) -> None:
        """Write it into an existing empty folder, which diffusers' `AutoencoderKL` loads too."""
        write_json(folder / CONFIG_NAME, self.config)
        save_tensors(self.tensors, folder / WEIGHTS_NAME)


def read_ldm_autoencoder(path: Path, options: ReadOptions) -> LdmAutoencoder | None:
    """Read a file, if it holds such an autoencoder.

    Args:
        path: safetensors, or what torch.save wrote; a state dict, perhaps under `state_dict`, or under `vae` beside a
            network's, which `options.weights` then asks for.
        options: `stats`, and `norm_num_groups` among the arguments, where they are not 32.

    Returns:
        The autoencoder; None if the file is something else.

    Raises:
        ConfigError: an argument does not fit.
        DitError: the autoencoder is of another kind, or damaged; the file is named.
    """
    state, statistics = _load(path, options.weights)
    state = {} if state is None else strip_wrappers(state)
    if not all(mark in state for mark in MARKS):
        return None
    left_out = [name for name in state if name.startswith(TRAINING_ONLY)]
    state = {name: tensor for name, tensor in state.items() if name not in left_out}
    check_weights(path, state)
    try:
        num_levels = count_blocks(state, "decoder.up.")
        tensors = {diffusers_name(name, num_levels): tensor for name, tensor in state.items()}
        config = _config({name: tuple(tensor.shape) for name, tensor in tensors.items()}, options.model)
    except DitError as error:
        raise type(error)(f"{path}: {error}") from None
    # A convolution of one position is a product, and a Linear in diffusers.
    tensors = {
        name: (tensor.flatten(1) if ".attentions." in name and tensor.ndim == 4 else tensor).contiguous()
        for name, tensor in tensors.items()
    }
    with torch.device("meta"):
        expected = KLAutoencoder(config).state_dict()
    check_tensors(path, expected, tensors)
    read = LdmAutoencoder(config, tensors)
    if left_out:
        read.notices.append(f"{len(left_out)} tensors of its training were left out, such as {left_out[0]}")
    if options.stats is not None:
        statistics = read_statistics(Path(options.stats), config["latent_channels"])
    if statistics is None:
        read.notices.append(
            "nothing says how its latents are normalised: give --stats FILE here, or latents.scale or latents.mean and "
            "latents.std in a recipe"
        )
    else:
        mean, std = statistics
        read.config |= {"scaling_factor": 1.0, "latents_mean": mean.tolist(), "latents_std": std.tolist()}
    return read


def read_statistics(path: Path, num_channels: int) -> tuple[Tensor, Tensor]:
    """Read a file of latent statistics: `mean` and `std`, or `latents_bias` and `latents_scale`, which is 1 / std.

    Args:
        path: safetensors or what torch.save wrote, tensors of C numbers in any shape such as (1, C, 1, 1).
        num_channels: C.

    Returns:
        Mean and deviation (C,) float64.

    Raises:
        DitError: it holds something else.
    """
    found = _read(path)
    for shift, scale in (("mean", "std"), ("latents_bias", "latents_scale")):
        values = found.get(shift), found.get(scale)
        if all(isinstance(value, Tensor) and value.numel() == num_channels for value in values):
            mean, deviation = (value.flatten().double() for value in values if value is not None)
            std = 1 / deviation if scale == "latents_scale" else deviation
            if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
                raise DitError(f"{path}: expected finite numbers, and positive ones in {scale}, found others")
            return mean, std
    raise DitError(
        f"{path}: expected mean and std, or latents_bias and latents_scale, of {num_channels} channels, found "
        f"{', '.join(map(str, list(found)[:5])) or 'nothing'}"
    )


def diffusers_name(name: str, num_levels: int) -> str:
    """Return diffusers' name of a tensor of an autoencoder with this many levels."""
    name = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)
    name = re.sub(r"^decoder\.up\.(\d+)\.", lambda found: f"decoder.up_blocks.{num_levels - 1 - int(found[1])}.", name)
    for theirs, ours in _PLACES.items():
        name = name.replace(theirs, ours)
    if ".attentions." in name:
        path, layer, kind = name.rsplit(".", 2)
        name = f"{path}.{_ATTENTION.get(layer, layer)}.{kind}"
    return name


def _config(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the shapes say, as diffusers' config.json has it."""
    num_levels = count_blocks(shapes, "encoder.down_blocks.")
    widest = [f"encoder.down_blocks.{i}.resnets.0.conv2.weight" for i in range(max(1, num_levels))]
    ends = "encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_out.weight"
    expect_dimensions(shapes, dict.fromkeys((*ends, *widest), 4))
    widths = [shapes[name][0] for name in widest]
    if unknown := [name for name in given if name != "norm_num_groups"]:
        raise ConfigError(f"--model.{unknown[0]}: an autoencoder takes --model.norm_num_groups alone")
    groups = given.get("norm_num_groups", NUM_GROUPS)
    if type(groups) is not int or groups < 1 or any(width % groups for width in widths):
        raise ConfigError(f"--model.norm_num_groups: expected a divisor of the widths {widths}, found {groups!r}")

    def levels(stack: str, types: tuple[str, str]) -> list[str]:
        return [types[f"{stack}.{i}.attentions.0.to_q.weight" in shapes] for i in range(num_levels)]

    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": widths,
        "down_block_types": levels("encoder.down_blocks", DOWN_BLOCK_TYPES),
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "latent_channels": shapes["encoder.conv_out.weight"][0] // 2,
        "layers_per_block": count_blocks(shapes, "encoder.down_blocks.0.resnets."),
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in shapes,
        "norm_num_groups": groups,
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "up_block_types": levels("decoder.up_blocks", UP_BLOCK_TYPES),
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "use_quant_conv": "quant_conv.weight" in shapes,
    }


def _load(path: Path, weights: str) -> tuple[dict[str, Tensor] | None, tuple[Tensor, Tensor] | None]:
    """Return the state dict that may be an autoencoder's, and mean and deviation where a batch norm says them."""
    content = _read(path)
    statistics = None
    if weights == "vae":
        ema = content.get("ema")
        mean, variance = (isinstance(ema, dict) and ema.get(f"bn.running_{name}") for name in ("mean", "var"))
        if isinstance(mean, Tensor) and isinstance(variance, Tensor):
            statistics = mean.flatten().double(), variance.flatten().double().sqrt()
        content = content.get("vae")
    elif isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    is_state = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    return content if is_state else None, statistics


def _read(path: Path) -> dict[Any, Any]:
    """Read a file of either kind, told by its first bytes; a pickle that holds no dictionary gives an empty one."""
    if not path.is_file():
        raise DitError(f"{path}: expected a file, found {'a folder' if path.is_dir() else 'nothing there'}")
    with open(path, "rb") as file:
        start = file.read(9)
    if start[8:9] == b"{" or path.suffix == ".safetensors":  # a pickle under that name is refused
        read_header(path)
        return load_file(path)
    content = load_pickle(path)
    return content if isinstance(content, dict) else {}
