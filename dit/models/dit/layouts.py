"""Published names of DiT's tensors, and the arguments that follow from their shapes.

The original DiT and SiT, and what was trained with their code, have our names. The processes differ:

    SiT:   t=1 is data, the network embeds that raw t and returns data - noise.   Ours: t=1 is noise.
    REPA, SRA:  t=1 is noise, the network embeds the raw t and returns noise - data.

so a SiT embeds 1 - t of ours and returns the opposite of our velocity.

D width, p patch, C latent channels, K classes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dit.errors import DitError
from dit.models.dit.arguments import VARIANTS
from dit.models.layout import (
    Kind,
    Layout,
    Rule,
    Shapes,
    TrainedFor,
    both,
    count_blocks,
    expect_dimensions,
    patch_arguments,
    told,
)

_MARKS = ("x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "final_layer.linear.weight")
_LINEAR_VELOCITY = {"path_type": ("linear",), "prediction": ("velocity", "v")}
_SIT = {"name": "flow", "time_scale": -1.0, "time_offset": 1.0, "output_sign": -1}
_REPA = {"name": "flow", "time_scale": 1.0, "time_offset": 0.0, "output_sign": 1}
GAUSSIAN = TrainedFor("gaussian", {"name": "gaussian"}, kind="a DiT", models=("DiT-",))
OF_REPA = TrainedFor("repa", _REPA, kind="a REPA", args=_LINEAR_VELOCITY)

_BLOCK = "transformer_blocks.{i}"
_EMBEDDER = f"{_BLOCK}.norm1.emb"

ORIGINAL = Layout(
    "DiT or SiT",
    _MARKS,
    trained_for=(GAUSSIAN, TrainedFor("flow", _SIT, kind="a SiT", models=("SiT-",), args=_LINEAR_VELOCITY), OF_REPA),
    vae="stabilityai/sd-vae-ft-ema",
)
REPA = Layout(
    "REPA",
    (*_MARKS, "projectors.*"),
    dropped=("projectors.*",),
    trained_for=(OF_REPA,),
    vae="stabilityai/sd-vae-ft-ema",
)
DIFFUSERS = Layout(
    "diffusers",
    ("pos_embed.proj.weight", "transformer_blocks.0.norm1.emb.*", "proj_out_2.weight"),
    rules=(
        *both("x_embedder.proj", "pos_embed.proj"),
        *both("t_embedder.mlp.0", f"{_EMBEDDER}.timestep_embedder.linear_1", kind=Kind.COPIES),
        *both("t_embedder.mlp.2", f"{_EMBEDDER}.timestep_embedder.linear_2", kind=Kind.COPIES),
        Rule(
            "y_embedder.embedding_table.weight",
            (f"{_EMBEDDER}.class_embedder.embedding_table.weight",),
            Kind.COPIES,
        ),
        *both("blocks.{i}.adaLN_modulation.1", f"{_BLOCK}.norm1.linear"),
        *both("blocks.{i}.attn.qkv", *(f"{_BLOCK}.attn1.to_{part}" for part in "qkv"), kind=Kind.ROWS),
        *both("blocks.{i}.attn.proj", f"{_BLOCK}.attn1.to_out.0"),
        *both("blocks.{i}.mlp.fc1", f"{_BLOCK}.ff.net.0.proj"),
        *both("blocks.{i}.mlp.fc2", f"{_BLOCK}.ff.net.2"),
        *both("final_layer.adaLN_modulation.1", "proj_out_1"),
        *both("final_layer.linear", "proj_out_2"),
    ),
    dropped=("pos_embed.pos_embed",),
    trained_for=(GAUSSIAN,),
    vae="stabilityai/sd-vae-ft-ema",
)
# As REPA's first versions named the blocks after the one whose tokens are aligned.
REPA_DECODER = replace(
    REPA,
    name="REPA with a decoder",
    marks=(*_MARKS, "decoder_blocks.0.attn.qkv.weight"),
    continued_by="decoder_blocks.",
)
# The tuned autoencoder's batch normalisation holds the statistics of these latents; it is no part of the network.
REPA_E = replace(
    REPA,
    name="REPA-E",
    marks=(*REPA.marks, "bn.*"),
    dropped=("projectors.*", "bn.*"),
    moments=("bn.running_mean", "bn.running_var"),
    vae=None,
)
SRA = replace(REPA, name="SRA", marks=(*_MARKS, "ap_head.linear1.weight"), dropped=("ap_head.*",))
REG = Layout(
    "REG", ("cls_projectors2.weight", *_MARKS), refused="its network denoises a class token besides the latent"
)
MOE = Layout("DiT-MoE", ("blocks.0.moe.gate.weight",), refused="its MLPs are mixtures of experts")
FIT = Layout("FiT", ("blocks.0.mlp.fc1_g.weight",), refused="its networks take any size of image, with padding")
FIT_V2 = replace(FIT, name="FiTv2", marks=(*FIT.marks, "global_adaLN_modulation.1.weight"))
SPRINT = Layout(
    "SPRINT",
    ("*middle_blocks.0.attn.qkv.weight", "*encoder_blocks.0.*"),
    refused="its deep blocks leave tokens out",
)
PIXEL_DIT = Layout(
    "PixelDiT", ("*pixel_embedder.proj.weight", "*pixel_blocks.0.*"), refused="its last blocks see single pixels"
)
LAYOUTS = (ORIGINAL, REPA, REPA_DECODER, REPA_E, SRA, DIFFUSERS, REG, MOE, FIT, FIT_V2, SPRINT, PIXEL_DIT)


def read(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that shapes tell; see `Family.read`."""
    expect_dimensions(shapes, {"pos_embed": 3, "blocks.0.mlp.fc1.weight": 2, "final_layer.linear.weight": 2})
    arguments = patch_arguments(shapes, given, VARIANTS)
    inputs, outputs = arguments["patch_size"] ** 2 * arguments["in_channels"], shapes["final_layer.linear.weight"][0]
    if outputs not in (inputs, 2 * inputs):
        raise DitError(f"state dict: expected final_layer.linear with {inputs} or {2 * inputs} rows, found {outputs}")
    return told(
        arguments
        | {
            "depth": count_blocks(shapes),
            "mlp_ratio": shapes["blocks.0.mlp.fc1.weight"][0] / arguments["hidden_size"],
            "learn_sigma": outputs == 2 * inputs,
            "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        }
    )
