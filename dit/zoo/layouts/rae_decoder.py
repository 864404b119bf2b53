"""The published decoder of a representation autoencoder, put together with its statistics and its encoder.

A file of the original holds the decoder alone. Its statistics, mean and var of (D, S, S), are in another file, and the
encoder is a repository of its authors. What comes out is one folder, as diffusers' `AutoencoderRAE` has it.

D width of the encoder, W of the decoder; S x S tokens.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dit.encoders.load import read_dinov2
from dit.errors import ConfigError, DitError
from dit.latents.rae import CLASS_NAME, POSITIONS, RAE, STATISTICS, STD_EPS
from dit.models.layout import Shapes, count_blocks, expect_dimensions, square
from dit.tensors import listed
from dit.zoo.layouts.autoencoder_file import ForeignAutoencoder, check_statistics, pair_in, read_content, state_in
from dit.zoo.layouts.original import ReadOptions, check_weights
from dit.zoo.layouts.table import strip_wrappers

MARKS = ("decoder_embed.weight", "decoder_pos_embed", "trainable_cls_token")
ENCODER = "facebook/dinov2-with-registers-base"
HEADS = {768: 12}
"""Width of a published decoder -> heads; the larger ones have 16."""
VARIANCE_EPS = 1e-5
_ATTENTION = {
    "attention.attention.query": "attention.to_q",
    "attention.attention.key": "attention.to_k",
    "attention.attention.value": "attention.to_v",
    "attention.output.dense": "attention.to_out.0",
}
_NOT_OF_THE_ENCODER = ("embeddings.mask_token", "layernorm.weight", "layernorm.bias")
"""The decoder was trained on tokens of a last normalisation without weight and bias."""


def read_rae_decoder(path: Path, content: Mapping[Any, Any], options: ReadOptions) -> ForeignAutoencoder | None:
    """Read the content of a file, if it is such a decoder.

    Args:
        path: what a message calls the file.
        content: a state dict, or one under `ema`.
        options: `stats`; `encoder`, a folder or a Hub id; `decoder_num_attention_heads` among the arguments.

    Returns:
        The autoencoder; None if the file is something else.

    Raises:
        ConfigError: an argument does not fit, or the encoder is of another width.
        DitError: something is missing, of another shape or damaged; the file is named.
    """
    state = strip_wrappers(state_in(content, "ema") or {})
    if not all(mark in state for mark in MARKS):
        return None
    check_weights(path, state)
    tensors = {f"decoder.{diffusers_name(name)}": tensor for name, tensor in state.items()}
    encoder, num_heads = read_dinov2(options.encoder or ENCODER, field="--encoder")
    check_weights(Path(options.encoder or ENCODER), encoder)
    tensors |= {f"encoder.{name}": tensor for name, tensor in encoder.items() if name not in _NOT_OF_THE_ENCODER}
    try:
        config = _config({name: tuple(tensor.shape) for name, tensor in tensors.items()}, options.model, num_heads)
    except DitError as error:
        raise type(error)(f"{path}: {error}") from None
    read = ForeignAutoencoder(config, tensors)
    if options.stats is None:
        read.notices.append("nothing says how its latents are normalised: give --stats FILE")
    else:
        side = config["encoder_input_size"] // config["encoder_patch_size"]
        mean, std = read_statistics(Path(options.stats), (config["encoder_hidden_size"], side, side))
        tensors |= dict(zip(STATISTICS, (mean.float(), (std - STD_EPS).float()), strict=True))
    read.tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        RAE(config, read.tensors, path).load_encoder()
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return read


def read_statistics(path: Path, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Read a file with `mean` and `var` of (D, S, S): mean and deviation, float64.

    Raises:
        DitError: it holds something else.
    """
    found = read_content(path)
    pair = pair_in(found, "mean", "var")
    if pair is None:
        raise DitError(f"{path}: expected mean and var, found {listed(map(str, found)) or 'no tensor'}")
    return check_statistics(path, pair[0], (pair[1] + VARIANCE_EPS).sqrt(), shape=shape)


def diffusers_name(name: str) -> str:
    """Return diffusers' name of a tensor of the decoder."""
    for theirs, ours in _ATTENTION.items():
        name = name.replace(theirs, ours)
    return name


def _config(shapes: Shapes, given: Mapping[str, Any], num_heads: int | None) -> dict[str, Any]:
    """Return what the shapes say, as diffusers' config.json has it."""
    projection = "encoder.embeddings.patch_embeddings.projection.weight"
    mlp = "decoder.decoder_layers.0.intermediate.dense.weight"
    ranks = {"decoder.decoder_embed.weight": 2, POSITIONS: 3, "decoder.decoder_pred.bias": 1, mlp: 2, projection: 4}
    expect_dimensions(shapes, ranks)
    width, features = shapes["decoder.decoder_embed.weight"]
    grid, patch = square(shapes[POSITIONS][1] - 1, 1), square(shapes["decoder.decoder_pred.bias"][0] // 3, 1)
    if grid is None or patch is None:
        raise DitError("expected a decoder of a square grid of square patches, found another")
    if unknown := [name for name in given if name != "decoder_num_attention_heads"]:
        raise ConfigError(f"--model.{unknown[0]}: this decoder takes --model.decoder_num_attention_heads alone")
    if shapes[projection][0] != features:
        raise ConfigError(f"--encoder: expected tokens of {features} features, found {shapes[projection][0]}")
    encoder_patch = shapes[projection][-1]
    return {
        "_class_name": CLASS_NAME,
        "decoder_hidden_size": width,
        "decoder_intermediate_size": shapes[mlp][0],
        "decoder_num_attention_heads": given.get("decoder_num_attention_heads", HEADS.get(width, 16)),
        "decoder_num_hidden_layers": count_blocks(shapes, "decoder.decoder_layers."),
        "encoder_hidden_size": features,
        "encoder_input_size": grid[0] * encoder_patch,
        "encoder_num_attention_heads": num_heads,
        "encoder_num_hidden_layers": count_blocks(shapes, "encoder.encoder.layer."),
        "encoder_patch_size": encoder_patch,
        "encoder_type": "dinov2",
        "num_channels": 3,
        "patch_size": patch[0],
    }
