"""Published names of MDT's and MDTv2's tensors, which are ours, and the arguments that follow from their shapes."""

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
from dit.models.mdt.arguments import MDT_V2_VARIANTS, MDT_VARIANTS

_TABLE = "attn.rel_pos_bias.relative_position_bias_table"
_DROPPED = ("*.relative_position_index",)
_VAE = "stabilityai/sd-vae-ft-ema"
_SAMPLING = {
    "solver": {"name": "ddpm"},
    "steps": 250,
    "guidance": 3.8,
    "guidance_channels": 3,
    "guidance_schedule": "power_cosine",
    "guidance_power": 4.0,
}

MDT_LAYOUTS = (
    Layout(
        "MDT",
        (f"blocks.0.{_TABLE}", "sideblocks.0.attn.qkv.weight"),
        dropped=_DROPPED,
        trained_for=(TrainedFor("gaussian", {"name": "gaussian"}, kind="an MDT"),),
        sampling=_SAMPLING,
        vae=_VAE,
    ),
)
MDT_V2_LAYOUTS = (
    Layout(
        "MDTv2",
        (f"en_inblocks.0.{_TABLE}", "sideblocks.0.attn.qkv.weight"),
        dropped=_DROPPED,
        trained_for=(TrainedFor("gaussian", {"name": "gaussian", "weighting": {"name": "min_snr"}}, kind="an MDTv2"),),
        sampling=_SAMPLING,
        vae=_VAE,
    ),
)


def read_mdt(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`. How many blocks decode, they don't."""
    return _shared(shapes, given, MDT_VARIANTS) | {"depth": count_blocks(shapes)}


def read_mdt_v2(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    stacks = [count_blocks(shapes, f"{name}.") for name in ("en_inblocks", "en_outblocks", "de_blocks")]
    return _shared(shapes, given, MDT_V2_VARIANTS) | {"depth": sum(stacks), "decode_layers": stacks[-1]}


def _shared(shapes: Shapes, given: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    table, mlp, output = f"sideblocks.0.{_TABLE}", "sideblocks.0.mlp.fc1.weight", "final_layer.linear.weight"
    expect_dimensions(shapes, {"pos_embed": 3, table: 2, mlp: 2, output: 2})
    arguments = patch_arguments(shapes, given, variants)
    return told(
        arguments
        | {
            "num_heads": shapes[table][1],
            "mlp_ratio": shapes[mlp][0] / arguments["hidden_size"],
            "learn_sigma": shapes[output][0] == 2 * arguments["patch_size"] ** 2 * arguments["in_channels"],
        }
    )
