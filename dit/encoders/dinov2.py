"""DINOv2 with registers: the names of its file on the Hub, and the same network as timm has it.

There the class token has a position of its own; timm adds it into the token. Tokens are in the order class, registers,
patches, of which only patches have positions.

D width, S x S positions, p patch size.

Source: Oquab et al., "DINOv2", 2023; Darcet et al., "Vision transformers need registers", 2023.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from dit.encoders.encoder import Encoder, Preparation
from dit.errors import ConfigError, DitError
from dit.tensors import check_tensors

_EMBEDDINGS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_LAYERS = {  # also the names since version 5 of transformers
    "attention.attention.query": "attn.q",
    "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v",
    "attention.output.dense": "attn.proj",
    "attention.q_proj": "attn.q",
    "attention.k_proj": "attn.k",
    "attention.v_proj": "attn.v",
    "attention.o_proj": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
UNUSED = "embeddings.mask_token"
HEAD_WIDTH = 64
"""Of every published size."""


def dinov2(
    where: str, tensors: Mapping[str, Tensor], preparation: Preparation, *, num_heads: int | None = None
) -> Encoder:
    """Build the network for the tensors of a file.

    Args:
        where: what a message calls the file.
        tensors: by its names; without `layernorm.*` the last normalisation has no weight and bias.
        preparation: of the images; any size of whole patches, for which positions are interpolated.
        num_heads: one per 64 features by default.

    Raises:
        ConfigError: the heads do not divide the width, or the size the patches.
        DitError: a tensor is missing, unexpected or of another shape.
    """
    from timm.models.vision_transformer import VisionTransformer

    state = timm_names(tensors)
    ranks = {"cls_token": 3, "reg_token": 3, "pos_embed": 3, "patch_embed.proj.weight": 4, "blocks.0.mlp.fc1.weight": 2}
    if bad := [name for name, rank in ranks.items() if name not in state or state[name].ndim != rank]:
        raise DitError(f"{where}: expected a DINOv2 with registers, found no {bad[0]}, or one of another rank")
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    side = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    num_heads = num_heads or max(1, width // HEAD_WIDTH)
    if width % num_heads:
        raise ConfigError(f"{where}: expected a number of heads that divides {width}, found {num_heads}")
    if any(size % patch for size in preparation.size):
        raise ConfigError(f"{where}: expected images of whole patches of {patch} pixels, found {preparation.size}")
    state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
    state["pos_embed"] = state["pos_embed"][:, 1:]
    state.setdefault("norm.weight", torch.ones(width))
    state.setdefault("norm.bias", torch.zeros(width))
    with torch.device("meta"):
        network = VisionTransformer(
            img_size=side * patch,
            patch_size=patch,
            embed_dim=width,
            depth=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
            num_heads=num_heads,
            mlp_ratio=len(state["blocks.0.mlp.fc1.weight"]) / width,
            init_values=1.0,
            reg_tokens=state["reg_token"].shape[1],
            no_embed_class=True,
            dynamic_img_size=True,
            num_classes=0,
        )
    check_tensors(where, network.state_dict(), state)
    network.load_state_dict(state, assign=True)
    return Encoder(where, network, preparation)


def timm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file by timm's names, queries, keys and values joined."""
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name == UNUSED:
            continue
        place = re.fullmatch(r"encoder\.layer\.(\d{1,4})\.(.+?)((?:\.weight|\.bias)?)", name)
        if place is None:
            state[_EMBEDDINGS.get(name, name)] = tensor
        else:
            state[f"blocks.{place[1]}.{_LAYERS.get(place[2], place[2])}{place[3]}"] = tensor
    for name in [name for name in state if ".attn.q." in name]:
        parts = [name, name.replace(".q.", ".k."), name.replace(".q.", ".v.")]
        if all(part in state for part in parts):
            state[name.replace(".q.", ".qkv.")] = torch.cat([state.pop(part) for part in parts])
    return state
