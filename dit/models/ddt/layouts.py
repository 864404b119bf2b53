"""Published names of DDT's tensors, and the arguments that follow from their shapes.

The published networks embed t with t=1 data and return data - noise. Neither the size of the latent nor the number of
the encoder's blocks leaves a trace in the weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dit.errors import DitError
from dit.models.layout import (
    Layout,
    Shapes,
    TrainedFor,
    count_blocks,
    expect_dimensions,
    mlp_ratio,
    told,
)

FLAT = Layout(
    "DDT",
    ("s_embedder.proj.weight", "blocks.0.attn.q_norm.weight", "blocks.0.mlp.w1.weight"),
    trained_for=(
        TrainedFor(
            "flow",
            {
                "name": "flow",
                "time_scale": -1.0,
                "time_offset": 1.0,
                "output_sign": -1,
                "time_law": {"name": "logit_normal"},
            },
            kind="a DDT",
        ),
    ),
    sampling={
        "solver": {"name": "euler"},
        "steps": 250,
        "grid": {"name": "uniform", "last_step": 0.04},
        "guidance": 2.0,
        "guidance_interval": [0.0, 0.7],
    },
    vae="stabilityai/sd-vae-ft-ema",
)
# A training checkpoint's one dictionary holds both sets of weights.
CHECKPOINT = replace(
    FLAT,
    name="DDT's checkpoint",
    prefix="ema_denoiser.",
    dropped=("denoiser.*", "diffusion_trainer.*"),
    weights={"ema": ("state_dict",), "raw": ()},
)
RAW = replace(
    CHECKPOINT,
    name="DDT's raw weights",
    prefix="denoiser.",
    dropped=("ema_denoiser.*", "diffusion_trainer.*"),
    weights={"ema": (), "raw": ("state_dict",)},
)
LAYOUTS = (FLAT, CHECKPOINT, RAW)


def read(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    entrance, labels, heads, gate = (
        "x_embedder.proj.weight",
        "y_embedder.embedding_table.weight",
        "blocks.0.attn.q_norm.weight",
        "blocks.0.mlp.w1.weight",
    )
    expect_dimensions(shapes, {entrance: 2, labels: 2, heads: 1, gate: 2})
    width, values = shapes[entrance]
    patch = given.get("patch_size", 2)  # only the product of the channels and the patch is told
    channels, rest = divmod(values, patch**2)
    if rest:
        raise DitError(f"state dict: expected {entrance} with a multiple of {patch**2} columns, found {values}")
    rows = shapes[labels][0]
    num_classes = given.get("num_classes", rows - 1)
    return told(
        {
            "input_size": given.get("input_size"),
            "patch_size": patch,
            "in_channels": channels,
            "hidden_size": width,
            "depth": count_blocks(shapes),
            "num_heads": width // shapes[heads][0],
            "mlp_ratio": mlp_ratio(shapes[gate][0], width, gate=True),
            "num_classes": num_classes,
            "class_dropout_prob": given.get("class_dropout_prob", 0.1 if rows == num_classes + 1 else 0.0),
        }
    )
