"""Published names of MaskDiT's tensors, which are ours, and the arguments that follow from their shapes."""

from collections.abc import Mapping
from typing import Any

from dit.models.layout import (
    Layout,
    Shapes,
    TrainedFor,
    count_blocks,
    expect_dimensions,
    patch_arguments,
    told,
)
from dit.models.maskdit.arguments import VARIANTS

_LABELS = "y_embedder.embedding_table.weight"
LAYOUTS = (
    Layout(
        "MaskDiT",
        ("decoder_layer.linear.weight", "decoder_blocks.0.attn.qkv.weight"),
        prefix="model.",
        trained_for=(TrainedFor("edm", {"name": "edm"}, kind="a MaskDiT"),),
        sampling={
            "solver": {"name": "heun"},
            "steps": 40,
            "grid": {"name": "karras", "t_start": 1.0, "t_end": 0.002 / 80},
            "guidance": 1.5,
        },
        vae="stabilityai/sd-vae-ft-ema",
    ),
)


def read(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`. The label layer (D, K) has no row of the null class."""
    mlp, mask = "blocks.0.mlp.fc1.weight", "mask_token"
    expect_dimensions(shapes, {"pos_embed": 3, mlp: 2, mask: 3})
    arguments = patch_arguments(shapes, given, VARIANTS)
    return told(
        arguments
        | {
            "depth": count_blocks(shapes),
            "mlp_ratio": shapes[mlp][0] / arguments["hidden_size"],
            "num_classes": shapes[_LABELS][1],
            "class_dropout_prob": given.get("class_dropout_prob", 0.1),
            "decoder_hidden_size": shapes[mask][2],
            "decoder_depth": count_blocks(shapes, "decoder_blocks."),
        }
    )
