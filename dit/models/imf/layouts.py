"""Published names of iMF's and pMF's tensors, and the arguments that follow from their shapes."""

from collections.abc import Mapping
from typing import Any

from dit.models.imf.arguments import IMF_VARIANTS, PMF_VARIANTS
from dit.models.layout import (
    Layout,
    Rule,
    Shapes,
    TrainedFor,
    both,
    count_blocks,
    expect_dimensions,
    mlp_ratio,
    patch_arguments,
    told,
)

_STACKS = ("shared_blocks", "u_heads", "v_heads")
_LINEARS = (
    *(f"attn.{name}_proj" for name in ("q", "k", "v", "out")),
    *(f"mlp.{name}" for name in ("w1", "w2", "w3")),
)
_EMBEDDERS = ("h", "omega", "cfg_t_start", "cfg_t_end")
_TABLE = "y_embedder.embedding_table"
_RULES = (
    *(
        Rule(f"{stack}.{{i}}.{name}.weight", (f"{stack}.{{i}}.{name}._flax_linear.weight",))
        for stack in _STACKS
        for name in _LINEARS
    ),
    *(
        rule
        for name in _EMBEDDERS
        for i in (0, 2)
        for rule in both(f"{name}_embedder.mlp.{i}", f"{name}_embedder.mlp.{i}._flax_linear")
    ),
    Rule(f"{_TABLE}.weight", (f"{_TABLE}._flax_embedding.weight",)),
    *both("u_final_layer.linear", "u_final_layer.linear._flax_linear"),
    *both("v_final_layer.linear", "v_final_layer.linear._flax_linear", optional=True),
)


def _process(noise_scale: float, mean: float, scale: float) -> dict[str, Any]:
    times = {"name": "logit_normal", "mean": mean, "scale": scale}
    return {"name": "average_velocity", "condition": "h", "noise_scale": noise_scale, "time_law": times}


def _sampling(guidance: float, low: float, high: float) -> dict[str, Any]:
    return {"solver": {"name": "euler"}, "steps": 1, "guidance": guidance, "guidance_interval": [low, high]}


IMF_LAYOUTS = (
    Layout(
        "iMF",
        ("omega_tokens", "x_embedder.proj.weight", "shared_blocks.0.attn_scale"),
        prefix="net.",
        rules=_RULES,
        trained_for=(TrainedFor("average_velocity", _process(1.0, -0.4, 1.0), kind="an iMF"),),
        sampling=_sampling(8.0, 0.4, 0.65),
        vae="stabilityai/sd-vae-ft-mse",
    ),
)
PMF_LAYOUTS = (
    Layout(
        "pMF",
        ("omega_tokens", "x_embedder.proj1.weight"),
        prefix="net.",
        dropped=("net.rope_freqs",),
        rules=_RULES,
        trained_for=(
            TrainedFor("average_velocity", _process(1.0, 0.8, 0.8), kind="a pMF-B/16 or L/16"),
            TrainedFor("average_velocity_noise_2", _process(2.0, 0.8, 0.8), kind="a pMF-H/16 or B/32"),
            TrainedFor("average_velocity_noise_4", _process(4.0, 0.8, 0.8), kind="a pMF-L/32 or H/32"),
        ),
        sampling=_sampling(7.0, 0.2, 0.7),
        vae="pixels",
    ),
)


def read_imf(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    return told(_blocks(shapes) | patch_arguments(shapes, given, IMF_VARIANTS) | _heads(shapes))


def read_pmf(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    first, blocks = "x_embedder.proj1.weight", _blocks(shapes)
    prefix = sum(blocks[f"num_{name}_tokens"] * times for name, times in _PREFIX.items())
    arguments = patch_arguments(shapes, given, PMF_VARIANTS, entrance=first, prefix_tokens=prefix)
    return told(
        arguments | blocks | _heads(shapes) | {"hidden_size": shapes[_LABELS][1], "bottleneck_size": shapes[first][0]}
    )


_LABELS, _HEAD, _GATE = f"{_TABLE}.weight", "u_heads.0.attn.q_norm.weight", "u_heads.0.mlp.w1.weight"
_PREFIX = {"class": 1, "guidance": 1, "interval": 2, "time": 1}
_TOKENS = {"class": "class_tokens", "guidance": "omega_tokens", "interval": "t_min_tokens", "time": "time_tokens"}


def _blocks(shapes: Shapes) -> dict[str, Any]:
    expect_dimensions(shapes, {_LABELS: 2, _HEAD: 1, _GATE: 2})
    head_depth, width = count_blocks(shapes, "u_heads."), shapes[_LABELS][1]
    return {
        "depth": count_blocks(shapes, "shared_blocks.") + head_depth,
        "head_depth": head_depth,
        "mlp_ratio": _ratio(shapes[_GATE][0], width),
        "velocity_head": count_blocks(shapes, "v_heads.") > 0,
        **{f"num_{name}_tokens": shapes.get(tokens, (0, 0))[-2] for name, tokens in _TOKENS.items()},
    }


def _heads(shapes: Shapes) -> dict[str, Any]:
    return {"num_heads": shapes[_LABELS][1] // shapes[_HEAD][0]}


def _ratio(width: int, hidden_size: int) -> float:
    usual = 8 / 3
    if hidden_size > 1024 and width == -(-int(usual * hidden_size) // 8) * 8:  # pMF rounds up
        return usual
    ratio = mlp_ratio(width, hidden_size, gate=False, usual=usual)
    return ratio if ratio == usual else (width + 0.5) / hidden_size
