"""A network's arguments from the shapes of its tensors."""

import pytest

from dit.errors import ConfigError, DitError
from dit.models import dit
from dit.models.dit.arguments import VARIANTS
from dit.models.families import arguments_of, family_of
from dit.zoo.folder.config import ModelDescription
from dit.zoo.folder.weights import empty_model
from dit.zoo.layouts.architecture import describe_network
from tests.zoo.conftest import TINY


def shapes_of(name, **arguments):
    return {
        key: tuple(tensor.shape)
        for key, tensor in empty_model(ModelDescription.of(name, **arguments)).state_dict().items()
    }


def describe(shapes, **given):
    return describe_network(dit.FAMILY, shapes, given)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "overrides", [{}, {"learn_sigma": False, "num_classes": 10, "in_channels": 3, "input_size": 64}]
)
def test_standard_variants_are_recognised(name, overrides):
    assert describe(shapes_of(name, **overrides)) == ModelDescription.of(name, **overrides)


@pytest.mark.parametrize(
    ("name", "overrides", "given"),
    [
        ("lightningdit_1p6b_1", {}, {}),
        ("lightningdit_l_2", {"in_channels": 4, "input_size": 32}, {}),
        ("jit_h_16", {}, {}),
        ("meanflow_m_2", {}, {}),
        ("imf_m_2", {}, {"input_size": 32}),
        ("pmf_h_32", {}, {}),
        ("mdt_b_4", {}, {}),
        ("mdtv2_s_2", {}, {}),
        ("uvit_m_4", {}, {}),
        ("uvit_h_4", {}, {}),
        ("ddt_l_2", {"input_size": 64}, {"input_size": 64}),
        ("ditdh_l_1", {"input_size": 32}, {}),
        ("maskdit_h_2", {}, {}),
    ],
)
def test_variants_of_the_other_families_are_recognised(name, overrides, given):
    assert describe_network(family_of(name), shapes_of(name, **overrides), given) == ModelDescription.of(
        name, **overrides
    )


def test_an_odd_network_goes_by_its_familys_name_and_its_heads_are_asked_for():
    shapes = shapes_of("dit_ti_2", **TINY)
    with pytest.raises(ConfigError, match=r"--model.num_heads: expected it to be given; the tensors do not tell it"):
        describe(shapes)
    arguments = arguments_of("dit_ti_2", **TINY)
    assert describe(shapes, num_heads=3) == ModelDescription(name="dit", arguments=arguments)
    assert ModelDescription.of("dit", **arguments.model_dump(mode="json")).arguments == arguments


def test_a_standard_width_of_another_depth_keeps_its_heads():
    found = describe(shapes_of("dit_xl_2", depth=3))
    assert (found.name, found.arguments.num_heads) == ("dit", 16)


def test_a_table_without_a_null_row_is_read_where_the_classes_are_given():
    shapes = shapes_of("dit_ti_2", **TINY, class_dropout_prob=0.0)
    arguments = describe(shapes, num_heads=3, num_classes=10).arguments
    assert (arguments.num_classes, arguments.class_dropout_prob) == (10, 0.0)


def test_oblong_latents_are_asked_for():
    shapes = shapes_of("dit_s_2", input_size=(4, 6))
    with pytest.raises(ConfigError, match=r"--model.input_size: expected it to be given"):
        describe(shapes)
    assert describe(shapes, input_size=[4, 6]).arguments.input_size == (4, 6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depth": 11}, "--model.depth: expected 12, as the tensors tell, found 11"),
        ({"name": "dit_s_4"}, "--model.name: expected dit_s_2, as the tensors tell, found dit_s_4"),
        ({"num_head": 3}, "--model.num_head: unknown key. Did you mean 'num_heads'"),
        ({"depth": "x"}, "--model.depth: expected an integer, found 'x'"),
    ],
)
def test_what_contradicts_the_tensors_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        describe(shapes_of("dit_s_2"), **given)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("pos_embed", (4, 4), r"expected pos_embed with 3 dimensions, found \[4, 4\]"),
        ("pos_embed", None, "expected pos_embed with 3 dimensions, found none"),
        ("final_layer.linear.weight", (17, 384), "expected final_layer.linear with 16 or 32 rows, found 17"),
    ],
)
def test_shapes_of_something_else_are_refused(name, shape, message):
    shapes = shapes_of("dit_s_2")
    shapes = shapes | {name: shape} if shape else {key: value for key, value in shapes.items() if key != name}
    with pytest.raises(DitError, match=message):
        describe(shapes)
