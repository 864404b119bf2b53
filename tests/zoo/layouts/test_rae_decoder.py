"""The published decoder of a representation autoencoder, its statistics and its encoder, put into one folder."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from dit.encoders.dinov2 import dinov2
from dit.encoders.encoder import Preparation
from dit.errors import ConfigError, DitError
from dit.latents.codec import load_codec
from dit.zoo.convert import convert
from dit.zoo.layouts.original import ReadOptions
from tests.goldens import assert_close, load_tensors
from tests.zoo.conftest import CreatesFile

HEADS = {"decoder_num_attention_heads": 4}  # of the golden; published ones of this width have 16
SIZES = {32: 12, 128: 48}  # of the golden encoder -> of one for the golden decoder, which takes 12 features


@pytest.fixture(scope="module")
def golden():
    return load_tensors("families/rae_decoder")


@pytest.fixture(scope="module")
def encoder():
    """Random weights by the names of the Hub's file."""
    shapes = {
        name.removeprefix("state.encoder."): tensor.shape
        for name, tensor in load_tensors("families/rae_encoder").items()
        if name.startswith("state.")
    }
    torch.manual_seed(0)
    tensors = {name: torch.randn([SIZES.get(n, n) for n in shape]) / 4 for name, shape in shapes.items()}
    return tensors | {"layernorm.weight": torch.full((12,), 7.0), "layernorm.bias": torch.full((12,), 7.0)}


@pytest.fixture
def files(tmp_path, golden, encoder):
    state = {name.removeprefix("state."): tensor for name, tensor in golden.items() if name.startswith("state.")}
    torch.save(state, tmp_path / "model.pt")
    torch.save({"mean": golden["latent_mean"], "var": golden["latent_var"][None]}, tmp_path / "stat.pt")
    (tmp_path / "encoder").mkdir()
    save_file(encoder, tmp_path / "encoder" / "model.safetensors")
    (tmp_path / "encoder" / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    return tmp_path


def put_together(files, **options):
    given = {"model": HEADS, "stats": files / "stat.pt", "encoder": str(files / "encoder")} | options
    return convert(files / "model.pt", files / "rae", options=ReadOptions(**given))


@torch.no_grad()
@pytest.mark.parametrize("key", [None, "ema"])
def test_goldens(files, golden, encoder, key):
    if key:
        state = torch.load(files / "model.pt")
        torch.save({key: state, "model": {name: -tensor for name, tensor in state.items()}}, files / "model.pt")
    assert put_together(files) == []
    codec = load_codec(str(files / "rae"))
    z = codec.denormalise(golden["z"])
    assert_close((codec.autoencoder.decode(z) + 1) / 2, golden["out"], 2e-6)  # of one forward, tests/goldens/README.md
    images = torch.rand(2, 3, 12, 12)
    tensors = {name: tensor for name, tensor in encoder.items() if not name.startswith("layernorm")}
    alone = dinov2("alone", tensors, Preparation((12, 12), antialias=False), num_heads=2)
    expected = alone(images).patches.transpose(1, 2).unflatten(2, (3, 3))
    assert_close(codec.encode(2 * images - 1), expected, 1e-6)  # images are doubled and halved on the way


def test_without_statistics_it_says_so(files):
    assert "give --stats FILE" in put_together(files, stats=None)[0]
    assert "_latents_mean" not in load_file(files / "rae" / "diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize(
    ("file", "edit", "problem"),
    [
        ("model.pt", lambda state: state.pop("decoder_pred.bias"), "expected decoder.decoder_pred.bias with 1 dim"),
        ("model.pt", lambda state: state.pop("decoder_norm.bias"), "1 tensors are missing: decoder.decoder_norm.bias"),
        ("model.pt", lambda state: state["decoder_norm.bias"].fill_(torch.nan), "NaN or infinity: decoder_norm.bias"),
        ("model.pt", lambda state: state.update(decoder_pos_embed=torch.ones(1, 9, 32)), "a square grid"),
        ("model.pt", lambda state: state.update(x=CreatesFile("sentinel")), "which could run code"),
        ("stat.pt", lambda stat: stat.pop("var"), "stat.pt: expected mean and var, found mean"),
        ("stat.pt", lambda stat: stat.update(var=torch.ones(12)), "expected statistics of [12, 3, 3], found"),
        ("stat.pt", lambda stat: stat["var"].sub_(1e6), "positive deviations"),
        ("encoder", lambda state: state.pop("embeddings.cls_token"), "expected a DINOv2 with registers, found no cls"),
        ("encoder", lambda state: state["embeddings.cls_token"].fill_(torch.nan), "infinity: embeddings.cls_token"),
    ],
)
def test_damaged_files_are_refused_and_leave_nothing(files, monkeypatch, file, edit, problem):
    monkeypatch.chdir(files)
    path = files / "encoder" / "model.safetensors" if file == "encoder" else files / file
    content = load_file(path) if file == "encoder" else torch.load(path)
    edit(content)
    (save_file if file == "encoder" else torch.save)(content, path)
    with pytest.raises(DitError, match=re.escape(problem)):
        put_together(files)
    assert sorted(found.name for found in files.iterdir()) == ["encoder", "model.pt", "stat.pt"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"model": {"depth": 2}}, "--model.depth: this decoder takes --model.decoder_num_attention_heads alone"),
        ({"model": {"decoder_num_attention_heads": 5}}, "decoder_num_attention_heads that divide 32, found 5"),
        ({"encoder": "no such"}, "--encoder: expected a folder or a Hub id"),
        ({"vae": "mnist"}, "--vae: expected it left out"),
    ],
)
def test_options_that_do_not_fit_are_refused(files, options, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        put_together(files, **options)
    assert not (files / "rae").exists()


def test_an_encoder_of_another_width_is_refused(files):
    tensors = load_file(files / "encoder" / "model.safetensors")
    tensors["embeddings.patch_embeddings.projection.weight"] = torch.ones(16, 3, 4, 4)
    save_file(tensors, files / "encoder" / "model.safetensors")
    with pytest.raises(ConfigError, match="--encoder: expected tokens of 12 features, found 16"):
        put_together(files)
