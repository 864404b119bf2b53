"""DINOv2 with registers against the numbers of the encoder that RAE takes, and the file of the Hub."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from dit.encoders.dinov2 import dinov2
from dit.encoders.encoder import Preparation
from dit.encoders.load import load_encoder
from dit.errors import ConfigError, DitError
from tests.goldens import assert_close, load_tensors

SIZE = (12, 12)
OLD_NAMES = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
}


@pytest.fixture(scope="module")
def golden():
    return load_tensors("families/rae_encoder")


@pytest.fixture
def tensors(golden):
    prefix = "state.encoder."
    return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}


def build(tensors, **preparation):
    return dinov2("file", tensors, Preparation(**{"size": SIZE, "antialias": False} | preparation), num_heads=2)


@torch.no_grad()
@pytest.mark.parametrize("old", [True, False])
def test_goldens(golden, tensors, old):
    if old:
        for new, name in OLD_NAMES.items():
            tensors = {key.replace(new, name): value for key, value in tensors.items()}
    encoder = build(tensors)
    for images, out in (("x", "out"), ("resized_x", "resized_out")):
        tokens = encoder(golden[images])
        assert tokens.class_token is not None
        assert tokens.class_token.shape == (2, 32)
        # (B, T, D) to (B, D, h, w); the tolerance of one forward in tests/goldens/README.md
        assert_close(tokens.patches.transpose(1, 2).unflatten(2, (3, 3)), golden[out], 2e-6)


@torch.no_grad()
def test_positions_are_interpolated_for_other_sizes(golden, tensors):
    """As the original does: bicubic with antialias, the class token's position apart."""
    places = tensors["embeddings.position_embeddings"]
    square = places[:, 1:].transpose(1, 2).unflatten(2, (3, 3))
    wide = torch.nn.functional.interpolate(square, size=(2, 2), mode="bicubic", antialias=True)
    there = torch.cat([places[:, :1], wide.flatten(2).transpose(1, 2)], dim=1)
    expected = build(tensors | {"embeddings.position_embeddings": there}, size=(8, 8))(golden["x"])
    assert torch.equal(build(tensors, size=(8, 8))(golden["x"]).patches, expected.patches)


@torch.no_grad()
def test_a_folder_as_on_the_hub(golden, tensors, tmp_path):
    """With the last normalisation's weights, and heads from its configuration."""
    norm = {"layernorm.weight": torch.linspace(0.5, 2, 32), "layernorm.bias": torch.linspace(-1, 1, 32)}
    save_file(tensors | norm, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    encoder = load_encoder(str(tmp_path))
    assert encoder.preparation.size == (224, 224)
    encoder.preparation = Preparation(SIZE, antialias=False)
    out = golden["out"].flatten(2).transpose(1, 2)
    assert_close(encoder(golden["x"]).patches, out * norm["layernorm.weight"] + norm["layernorm.bias"], 2e-6)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda state: state.pop("embeddings.register_tokens"), "found no reg_token"),
        (lambda state: state.update({"embeddings.cls_token": torch.ones(3)}), "found no cls_token, or one of another"),
        (lambda state: state.pop("encoder.layer.1.attention.q_proj.bias"), "missing: blocks.1.attn.qkv.bias"),
        (lambda state: state.update({"pooler.weight": torch.ones(1)}), "1 tensors are unexpected: pooler.weight"),
        (lambda state: state.update({"encoder.layer.0.norm1.bias": torch.ones(1)}), "another shape: blocks.0.norm1.bi"),
        (lambda state: state.update({"encoder.layer.9.norm1.bias": torch.ones(32)}), "tensors are missing: blocks.2."),
    ],
)
def test_damaged_files_are_refused(tensors, edit, problem):
    edit(tensors)
    with pytest.raises(DitError, match=f"^file: .*{re.escape(problem)}"):
        build(tensors)


def test_sizes_that_do_not_fit_are_refused(tensors):
    with pytest.raises(ConfigError, match="whole patches of 4 pixels, found"):
        build(tensors, size=(12, 13))
    with pytest.raises(ConfigError, match="divides 32, found 3"):
        dinov2("file", tensors, Preparation(SIZE), num_heads=3)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"^encoder: expected a folder or a Hub id .*, found 'dino v2'"):
        load_encoder("dino v2")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(DitError, match=r"model\.safetensors: expected the weights of an encoder"):
        load_encoder(str(tmp_path))
