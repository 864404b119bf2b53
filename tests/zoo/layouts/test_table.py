"""Families of foreign names: recognition by content, renaming and its inverse."""

import pytest
import torch

from dit.errors import DitError
from dit.models.dit.layouts import DIFFUSERS, ORIGINAL, REPA
from dit.models.registry import create_model
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


def test_families_are_recognised_by_their_names(tensors):
    assert recognise(tensors)[1] is ORIGINAL
    assert recognise([*tensors, "projectors.0.0.weight"])[1] is REPA
    tensors.pop("pos_embed")
    assert recognise(from_native(tensors, DIFFUSERS))[1] is DIFFUSERS


def test_the_projector_of_repa_is_dropped_and_named(tensors):
    native, left_out = to_native(tensors | {"projectors.0.0.weight": torch.zeros(2)}, REPA)
    assert equal(native, tensors)
    assert left_out == ["projectors.0.0.weight"]


def test_there_and_back_again_is_bit_identical(tensors):
    native = {name: tensor for name, tensor in tensors.items() if name != "pos_embed"}  # diffusers computes its own
    foreign = from_native(native, DIFFUSERS)
    back, left_out = to_native(foreign, DIFFUSERS)
    assert equal(back, native)
    assert left_out == []
    assert equal(from_native(back, DIFFUSERS), foreign)


def test_every_tensor_of_diffusers_has_its_own_memory(tensors):
    tensors.pop("pos_embed")
    foreign = from_native(tensors, DIFFUSERS)
    tables = [tensor for name, tensor in foreign.items() if name.endswith("embedding_table.weight")]
    assert len({table.data_ptr() for table in tables}) == len(tables) == 2


def test_a_lightning_dit_is_refused_with_the_reason(tensors):
    with pytest.raises(DitError, match="LightningDiT, which can't be read: its SwiGLU"):
        recognise([*tensors, "blocks.0.mlp.w12.weight"])


@pytest.mark.parametrize("names", [[], ["conv1.weight", "fc.weight"]])
def test_what_is_no_dit_is_refused(names):
    with pytest.raises(DitError, match=r"expected the names of .*DiT or SiT, found"):
        recognise(names)


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


def test_the_rules_cover_the_network_and_nothing_else():
    model = create_model("dit_ti_2", **TINY)
    native = {rule.native.replace("{i}", "0") for rule in DIFFUSERS.rules}
    names = {name for name in model.state_dict() if not name.startswith("blocks.1.")}
    assert native == names - {"pos_embed"}
