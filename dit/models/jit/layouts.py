"""Published names of JiT's tensors, and the arguments that follow from their shapes.

The published networks embed t with t=1 data and return the image.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dit.models.jit.arguments import VARIANTS
from dit.models.layout import (
    Layout,
    Shapes,
    TrainedFor,
    count_blocks,
    expect_dimensions,
    mlp_ratio,
    patch_arguments,
    told,
)


def _process(noise_scale: float) -> dict[str, Any]:
    return {
        "name": "flow",
        "noise_scale": noise_scale,
        "prediction": "x0",
        "velocity_floor": 0.05,
        "time_law": {"name": "logit_normal", "mean": 0.8, "scale": 0.8},
        "weighting": {"name": "velocity"},
        "time_scale": -1.0,
        "time_offset": 1.0,
    }


ORIGINAL = Layout(
    "JiT",
    ("in_context_posemb", "x_embedder.proj1.weight", "blocks.0.mlp.w12.weight"),
    prefix="net.",
    weights={"ema": ("model_ema1",), "raw": ("model",)},
    trained_for=(
        TrainedFor("flow", _process(1.0), "a JiT for 256 pixels", tuple(f"JiT-{size}/16" for size in "BLHG")),
        TrainedFor("flow_512", _process(2.0), "a JiT for 512 pixels", tuple(f"JiT-{size}/32" for size in "BLHG")),
    ),
    # Its guidance acts below 0.9, which is a time of the 50 steps; an interval here holds its ends.
    sampling={"solver": {"name": "heun"}, "steps": 50, "guidance": 2.4, "guidance_interval": [0.0, 0.899]},
    vae="pixels",
)
LAYOUTS = (ORIGINAL, replace(ORIGINAL, name="JiT without its wrapper", prefix=""))


def read(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    first, second, heads = "x_embedder.proj1.weight", "x_embedder.proj2.weight", "blocks.0.attn.q_norm.weight"
    gate, context = "blocks.0.mlp.w12.weight", "in_context_posemb"
    expect_dimensions(shapes, {first: 4, second: 4, heads: 1, gate: 2, context: 3})
    arguments = patch_arguments(shapes, given, VARIANTS, entrance=first)
    width = shapes[second][0]
    return told(
        arguments
        | {
            "hidden_size": width,
            "depth": count_blocks(shapes),
            "num_heads": width // shapes[heads][0],
            "mlp_ratio": mlp_ratio(shapes[gate][0] // 2, width, gate=True),
            "bottleneck_size": shapes[first][0],
            "num_context_tokens": shapes[context][1],
        }
    )
