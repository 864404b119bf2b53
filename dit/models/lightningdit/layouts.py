"""Published names of LightningDiT's tensors, which are ours, and the arguments that follow from their shapes.

The published networks embed t with t=1 data and return data - noise; RAE's plain LightningDiT embeds our t and returns
our velocity.
"""

from collections.abc import Mapping
from typing import Any

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
from dit.models.lightningdit.arguments import VARIANTS

_MARKS = ("x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "final_layer.linear.weight")
_ROTARY = ("*feat_rope.freqs_*",)
_TIMES = {"name": "logit_normal"}
FLOW = TrainedFor(
    "flow",
    {"name": "flow", "time_scale": -1.0, "time_offset": 1.0, "output_sign": -1, "time_law": _TIMES},
    kind="a LightningDiT",
)
_SAMPLING = {
    "solver": {"name": "euler"},
    "steps": 249,
    "grid": {"name": "shifted", "shift": 1 / 0.3},
    "guidance": 6.7,
    "guidance_channels": 3,
    "guidance_interval": [0.0, 0.875],
}


def rae_process(num_values: int) -> dict[str, Any]:
    """Return the section `process` of RAE's networks for latents of so many values, by which their times move."""
    shift = (num_values / 4096) ** 0.5
    return {"name": "flow", "time_scale": 1.0, "time_law": {**_TIMES, "largest": 0.999, "shift": shift}}


RAE_TIMES = (
    TrainedFor("flow", rae_process(768 * 16 * 16), kind="an RAE for 256 pixels"),
    TrainedFor("flow_512", rae_process(768 * 32 * 32), kind="an RAE for 512 pixels"),
)
RAE_SAMPLING = {
    "solver": {"name": "euler"},
    "steps": 49,
    "grid": {"name": "shifted", "shift": 48**0.5, "t_end": 0.001},
}

ORIGINAL = Layout(
    "LightningDiT",
    (*_MARKS, "blocks.0.mlp.w12.weight"),
    dropped=_ROTARY,
    trained_for=(FLOW,),
    sampling=_SAMPLING,
)
PLAIN_MLP = Layout(
    "LightningDiT without SwiGLU",
    (*_MARKS, "blocks.0.mlp.fc1.weight", "feat_rope.freqs_cos"),
    dropped=_ROTARY,
    trained_for=(FLOW,),
    sampling=_SAMPLING,
)
RAE = Layout("RAE's DiT", (*_MARKS, "t_embedder.W"), dropped=_ROTARY, trained_for=RAE_TIMES, sampling=RAE_SAMPLING)
LAYOUTS = (ORIGINAL, PLAIN_MLP, RAE)


def block_arguments(shapes: Shapes) -> dict[str, Any]:
    """Return the arguments of the blocks that the first of them tells; rotary positions leave no trace."""
    swiglu = "blocks.0.mlp.w12.weight" in shapes
    mlp = "blocks.0.mlp.w12.weight" if swiglu else "blocks.0.mlp.fc1.weight"
    expect_dimensions(shapes, {mlp: 2})
    rows, width = shapes[mlp]
    return {
        "mlp_ratio": mlp_ratio(rows // 2 if swiglu else rows, width, gate=swiglu),
        "swiglu": swiglu,
        "rms_norm": "blocks.0.norm1.weight" in shapes,
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
    }


def read(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    expect_dimensions(shapes, {"blocks.0.adaLN_modulation.1.weight": 2, "final_layer.linear.weight": 2})
    arguments = patch_arguments(shapes, given, VARIANTS)
    inputs = arguments["patch_size"] ** 2 * arguments["in_channels"]
    modulation, width = shapes["blocks.0.adaLN_modulation.1.weight"]
    return told(
        arguments
        | block_arguments(shapes)
        | {
            "depth": count_blocks(shapes),
            "variance_half": shapes["final_layer.linear.weight"][0] == 2 * inputs,
            "shift": modulation == 6 * width,
            "fourier_time": "t_embedder.W" in shapes,
        }
    )
