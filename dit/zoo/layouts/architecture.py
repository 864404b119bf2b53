"""The arguments of a network from the shapes of its tensors. Free of torch.

Everything but the number of heads can be read off: the heads come from the standard variants, or from the user.

D width, p patch, C latent channels, T tokens, K classes.
"""

import math
from collections.abc import Mapping, Sequence

from dit.errors import ConfigError, DitError
from dit.models.dit.arguments import VARIANTS
from dit.models.families import arguments_of
from dit.zoo.folder.config import ModelDescription

Shapes = Mapping[str, Sequence[int]]
_TENSORS = {
    "x_embedder.proj.weight": 4,
    "y_embedder.embedding_table.weight": 2,
    "pos_embed": 3,
    "blocks.0.mlp.fc1.weight": 2,
    "final_layer.linear.weight": 2,
}


def infer_architecture(
    shapes: Shapes,
    depth: int,
    *,
    num_heads: int | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, int] | None = None,
) -> ModelDescription:
    """Return the nearest variant and all arguments of the network with these tensors, named as ours.

    Args:
        shapes: shape of every tensor.
        depth: number of blocks.
        num_heads: attention heads; of a standard variant they are known.
        num_classes: K; by default the label table has a row for each class and one for the null class.
        input_size: height and width of the latent; square by default.

    Raises:
        ConfigError: what the shapes can't tell was not given.
        DitError: the shapes are not those of a DiT.
    """
    for name, num_dimensions in _TENSORS.items():
        if len(shapes.get(name, ())) != num_dimensions:
            found = list(shapes[name]) if name in shapes else "none"
            raise DitError(f"state dict: expected {name} with {num_dimensions} dimensions, found {found}")
    width, channels, patch, _ = shapes["x_embedder.proj.weight"]
    rows = shapes["y_embedder.embedding_table.weight"][0]
    name, heads = _variant(width, depth, patch, num_heads)
    if num_classes is None:
        num_classes = rows - 1
    arguments = {
        "input_size": input_size or _square(shapes["pos_embed"][1], patch),
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": shapes["blocks.0.mlp.fc1.weight"][0] / width,
        "class_dropout_prob": 0.1 if rows == num_classes + 1 else 0.0,
        "num_classes": num_classes,
        "learn_sigma": _learns_sigma(shapes["final_layer.linear.weight"][0], patch * patch * channels),
    }
    return ModelDescription(name=name, arguments=arguments_of(name, **arguments))


def _variant(width: int, depth: int, patch: int, num_heads: int | None) -> tuple[str, int]:
    for name, variant in VARIANTS.items():
        if (variant["hidden_size"], variant["depth"], variant["patch_size"]) == (width, depth, patch):
            return name, num_heads or variant["num_heads"]
    same_width = {variant["num_heads"] for variant in VARIANTS.values() if variant["hidden_size"] == width}
    if num_heads is None and len(same_width) == 1:
        num_heads = same_width.pop()
    if num_heads is None:
        raise ConfigError(
            f"--num_heads: expected it to be given; width {width} with {depth} blocks is no standard variant, "
            "and the tensors do not tell the number of heads"
        )
    return next(iter(VARIANTS)), num_heads


def _square(num_tokens: int, patch: int) -> tuple[int, int]:
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise ConfigError(f"--input_size: expected HEIGHT WIDTH to be given; {num_tokens} tokens are no square")
    return side * patch, side * patch


def _learns_sigma(num_outputs: int, num_inputs: int) -> bool:
    if num_outputs not in (num_inputs, 2 * num_inputs):
        raise DitError(
            f"state dict: expected final_layer.linear with {num_inputs} or {2 * num_inputs} rows, found {num_outputs}"
        )
    return num_outputs == 2 * num_inputs
