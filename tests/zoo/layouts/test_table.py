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


def test_a_lightning_dit_is_refused_with_the_reason(tensors):
    with pytest.raises(DitError, match="LightningDiT, which can't be read: its SwiGLU"):
        recognise([*tensors, "blocks.0.mlp.w12.weight"])


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
