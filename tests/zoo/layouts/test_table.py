"""Families of foreign names: recognition by content, renaming and its inverse."""

import pytest
import torch

from dit.errors import DitError
from dit.models.dit.layouts import DIFFUSERS
from dit.zoo.layouts.table import from_native, recognise, strip_wrappers, to_native
from tests.zoo.conftest import TINY, equal, random_model


@pytest.fixture
def tensors():
    return dict(random_model(**TINY).state_dict())


@pytest.mark.parametrize(
    "wrap", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "module.module.{}"]
)
def test_wrappers_are_taken_off(tensors, wrap):
    wrapped = {wrap.format(name): tensor for name, tensor in tensors.items()}
    assert equal(strip_wrappers(wrapped), tensors)


def test_blocks_compiled_one_by_one_are_unwrapped(tensors):
    wrapped = {name.replace("blocks.1.", "blocks.1._orig_mod."): tensor for name, tensor in tensors.items()}
    assert wrapped != tensors
    assert equal(strip_wrappers(wrapped), tensors)


def test_names_that_become_the_same_are_refused():
    with pytest.raises(DitError, match="two names are the same"):
        strip_wrappers({"a": torch.zeros(1), "_orig_mod.a": torch.zeros(1)})


def test_module_is_only_taken_off_where_every_name_has_it(tensors):
    mixed = {"module.pos_embed": torch.zeros(1), "x": torch.zeros(1)}
    assert strip_wrappers(mixed).keys() == mixed.keys()


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (["cls_projectors2.weight", "projectors.0.0.weight"], "REG"),
        (["blocks.0.moe.gate.weight"], "DiT-MoE"),
        (["blocks.0.mlp.fc1_g.weight"], "FiT"),
        (["blocks.0.mlp.fc1_g.weight", "global_adaLN_modulation.1.weight"], "FiTv2"),
        (["encoder_blocks.0.mlp.fc1.weight", "middle_blocks.0.attn.qkv.weight", "decoder_blocks.0.x"], "SPRINT"),
        (["ema_denoiser.pixel_embedder.proj.weight", "ema_denoiser.pixel_blocks.0.norm1.weight"], "PixelDiT"),
    ],
)
def test_networks_that_are_not_here_are_refused_by_their_names(tensors, names, called):
    with pytest.raises(DitError, match=f"it is a {called}, which can't be read: its"):
        recognise([*tensors, *names])


def change_copy(foreign):
    foreign["transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight"][0, 0] += 1


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: f.pop("transformer_blocks.1.attn1.to_k.bias"), r"1 tensors are missing: .*to_k\.bias$"),
        (lambda f: f.update({"transformer_blocks.999999999.x": torch.zeros(1)}), "found transformer_blocks.999999999"),
        (change_copy, r"copies differ in transformer_blocks\.1\.norm1\.emb\.class_embedder"),
    ],
    ids=["missing", "far block", "copies differ"],
)  # fmt: skip
def test_c7_what_does_not_fit_is_named(tensors, edit, message):
    tensors.pop("pos_embed")
    foreign = from_native(tensors, DIFFUSERS)
    edit(foreign)
    with pytest.raises(DitError, match=message):
        to_native(foreign, DIFFUSERS)
