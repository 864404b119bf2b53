"""Published names of U-ViT's tensors, which are ours, and the arguments that follow from their shapes.

The published networks predict the noise: L and M, which end in a convolution, along the continuous path, H, which does
not, at Stable Diffusion's discrete steps, counted from 1.
"""

from collections.abc import Mapping
from typing import Any

from dit.models.layout import (
    Layout,
    Shapes,
    TrainedFor,
    count_blocks,
    expect_dimensions,
    only,
    square,
    told,
)
from dit.models.uvit.arguments import VARIANTS

_MARKS = ("mid_block.norm1.weight", "in_blocks.0.attn.qkv.weight")
_SAMPLING = {"solver": {"name": "dpmpp_2m"}, "steps": 50, "guidance": 1.4}
_VAE = "stabilityai/sd-vae-ft-ema"
LAYOUTS = (
    Layout(
        "U-ViT",
        (*_MARKS, "final_layer.weight"),
        trained_for=(
            TrainedFor(
                "flow",
                {"name": "flow", "schedule": "vp_linear", "prediction": "eps", "time_scale": 999.0},
                kind="a U-ViT-L or M",
            ),
        ),
        sampling=_SAMPLING,
        vae=_VAE,
    ),
    Layout(
        "U-ViT-H",
        _MARKS,
        without=("final_layer.weight",),
        trained_for=(
            TrainedFor(
                "gaussian",
                {"name": "gaussian", "betas": "scaled_linear", "first_step": 1, "learn_sigma": False},
                kind="a U-ViT-H",
            ),
        ),
        sampling=_SAMPLING,
        vae=_VAE,
    ),
)


def read(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`.

    A table of 1000 rows is taken to have no null class: the published one is ImageNet's at 64 pixels.
    """
    entrance, mlp = "patch_embed.proj.weight", "mid_block.mlp.fc1.weight"
    expect_dimensions(shapes, {entrance: 4, "pos_embed": 3, mlp: 2})
    width, channels, patch, _ = shapes[entrance]
    rows = shapes["label_emb.weight"][0] if "label_emb.weight" in shapes else 0
    num_classes = given.get("num_classes", rows if rows in (0, 1000) else rows - 1)
    dropout = None if rows == 0 else 0.1 if rows == num_classes + 1 else 0.0
    return told(
        {
            "input_size": given.get("input_size") or square(shapes["pos_embed"][1] - (2 if rows else 1), patch),
            "patch_size": patch,
            "in_channels": channels,
            "hidden_size": width,
            "depth": 2 * count_blocks(shapes, "in_blocks."),
            "num_heads": given.get("num_heads")
            or only([variant["num_heads"] for variant in VARIANTS.values() if variant["hidden_size"] == width]),
            "mlp_ratio": shapes[mlp][0] / width,
            "num_classes": num_classes,
            "class_dropout_prob": given.get("class_dropout_prob", dropout),
            "qkv_bias": "mid_block.attn.qkv.bias" in shapes,
            "time_mlp": "time_embed.0.weight" in shapes,
            "final_convolution": "final_layer.weight" in shapes,
        }
    )
