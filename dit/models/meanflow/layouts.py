"""Published names of MeanFlow's tensors, and the arguments that follow from their shapes."""

from collections.abc import Mapping
from typing import Any

from dit.models.layout import (
    Layout,
    Shapes,
    TrainedFor,
    both,
    count_blocks,
    expect_dimensions,
    patch_arguments,
    told,
)
from dit.models.meanflow.arguments import VARIANTS

_MARKS = ("t_embedder.mlp.0.weight", "blocks.0.attn.qkv.weight")
_TRAINED_FOR = (TrainedFor("average_velocity", {"name": "average_velocity", "condition": "r"}, kind="a MeanFlow"),)
_SAMPLING = {"solver": {"name": "euler"}, "steps": 1}
_VAE = "stabilityai/sd-vae-ft-mse"

ORIGINAL = Layout(
    "MeanFlow", ("r_embedder.mlp.0.weight", *_MARKS), trained_for=_TRAINED_FOR, sampling=_SAMPLING, vae=_VAE
)
STEP_EMBEDDER = Layout(
    "MeanFlow with h_embedder",
    ("h_embedder.mlp.0.weight", *_MARKS),
    rules=(*both("r_embedder.mlp.0", "h_embedder.mlp.0"), *both("r_embedder.mlp.2", "h_embedder.mlp.2")),
    trained_for=_TRAINED_FOR,
    sampling=_SAMPLING,
    vae=_VAE,
)
LAYOUTS = (ORIGINAL, STEP_EMBEDDER)


def read(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    expect_dimensions(shapes, {"pos_embed": 3, "blocks.0.mlp.fc1.weight": 2})
    arguments = patch_arguments(shapes, given, VARIANTS)
    ratio = shapes["blocks.0.mlp.fc1.weight"][0] / arguments["hidden_size"]
    return told(arguments | {"depth": count_blocks(shapes), "mlp_ratio": ratio})
