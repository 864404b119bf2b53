"""KL autoencoders by the names of the latent-diffusion code (VA-VAE, REPA-E), turned into a folder as diffusers has it.

    encoder.down.{i}.{block,attn}.{j}, encoder.down.{i}.downsample, {encoder,decoder}.mid.{block_1,attn_1,block_2}
    decoder.up.{i}: the level that the encoder's i ends at, so that the last one comes first

Sizes are read off the shapes. Latents are normalised by a file of statistics, or by those of the batch norm between
autoencoder and network where both were trained together. A file may be a pickle, which only a conversion opens; the
folder is then taken by `latents.vae` and `--vae` as any other.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit.errors import ConfigError, DitError
from dit.latents.kl import DOWN_BLOCK_TYPES, UP_BLOCK_TYPES, KLAutoencoder
from dit.models.layout import Shapes, count_blocks, expect_dimensions
from dit.tensors import check_tensors, listed
from dit.zoo.layouts.autoencoder_file import ForeignAutoencoder, check_statistics, pair_in, read_content, state_in
from dit.zoo.layouts.original import ReadOptions, check_weights
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


def read_ldm_autoencoder(path: Path, content: Mapping[Any, Any], options: ReadOptions) -> ForeignAutoencoder | None:
    """Read the content of a file, if it is such an autoencoder.

    Args:
        path: what a message calls the file.
        content: a state dict, or one under `state_dict`, or under `vae` beside a network's, for which `options.weights`
            then asks.
        options: `stats`, and `norm_num_groups` among the arguments, where they are not 32.

    Returns:
        The autoencoder; None if the file is something else.

    Raises:
        ConfigError: an argument does not fit.
        DitError: the autoencoder is of another kind, or damaged; the file is named.
    """
    state, statistics = _state_and_statistics(content, options.weights)
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
    read = ForeignAutoencoder(config, tensors)
    if left_out:
        read.notices.append(f"{len(left_out)} tensors of its training were left out, such as {left_out[0]}")
    if options.stats is not None:
        statistics = read_statistics(Path(options.stats))
    if statistics is None:
        read.notices.append(
            "nothing says how its latents are normalised: give --stats FILE here, or latents.scale or latents.mean and "
            "latents.std in a recipe"
        )
    else:
        where = path if options.stats is None else options.stats
        mean, std = check_statistics(where, *statistics, shape=(config["latent_channels"],))
        read.config |= {"scaling_factor": 1.0, "latents_mean": mean.tolist(), "latents_std": std.tolist()}
    return read


def read_statistics(path: Path) -> tuple[Tensor, Tensor]:
    """Read a file of latent statistics: `mean` and `std`, or `latents_bias` and `latents_scale`, which is 1 / std.

    Args:
        path: safetensors or what torch.save wrote, tensors of C numbers in any shape such as (1, C, 1, 1).

    Returns:
        Mean and deviation (C,) float64.

    Raises:
        DitError: it holds something else.
    """
    found = read_content(path)
    if (pair := pair_in(found, "mean", "std")) is not None:
        return pair
    if (pair := pair_in(found, "latents_bias", "latents_scale")) is not None:
        return pair[0], 1 / pair[1]
    names = listed(map(str, found)) or "no tensor"
    raise DitError(f"{path}: expected mean and std, or latents_bias and latents_scale, found {names}")


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


def _state_and_statistics(
    content: Mapping[Any, Any], weights: str
) -> tuple[dict[str, Tensor] | None, tuple[Tensor, Tensor] | None]:
    """Return the state dict that may be an autoencoder's, and mean and deviation where a batch norm says them."""
    if weights != "vae":
        return state_in(content, "state_dict"), None
    norm = pair_in(content.get("ema"), "bn.running_mean", "bn.running_var")
    return state_in(content, "vae"), norm and (norm[0], norm[1].sqrt())
