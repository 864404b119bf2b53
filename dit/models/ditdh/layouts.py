"""Published names of DiT-DH's tensors, which are ours, and the arguments that follow from their shapes."""

from collections.abc import Mapping
from typing import Any

from dit.models.ditdh.arguments import VARIANTS
from dit.models.layout import Layout, Shapes, count_blocks, expect_dimensions, patch_arguments, told
from dit.models.lightningdit.layouts import RAE_SAMPLING, RAE_TIMES, block_arguments

LAYOUTS = (
    Layout(
        "RAE's DiT-DH",
        ("s_embedder.proj.weight", "t_embedder.W", "blocks.0.attn.qkv.weight"),
        dropped=("*feat_rope.freqs_*",),
        trained_for=RAE_TIMES,
        sampling=RAE_SAMPLING,
    ),
)


def read(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    expect_dimensions(shapes, {"x_embedder.proj.weight": 4})
    arguments = patch_arguments(shapes, given, VARIANTS, entrance="s_embedder.proj.weight")
    width, head_width = arguments["hidden_size"], shapes["x_embedder.proj.weight"][0]
    blocks = [
        shapes[name][-1] for i in range(count_blocks(shapes)) if (name := f"blocks.{i}.attn.proj.weight") in shapes
    ]
    head_depth = given.get("head_depth", 2) if width == head_width else blocks.count(head_width)
    return told(
        arguments
        | block_arguments(shapes)
        | {
            "depth": len(blocks) - head_depth,
            "head_hidden_size": head_width,
            "head_depth": head_depth,
            "positions": "pos_embed" in shapes,
        }
    )
