"""A network's arguments from the shapes of its tensors."""

import pytest

from dit.errors import ConfigError, DitError
from dit.models.dit.arguments import VARIANTS
from dit.models.families import arguments_of
from dit.zoo.folder.config import ModelDescription
from dit.zoo.folder.weights import empty_model
from dit.zoo.layouts.architecture import infer_architecture
from tests.zoo.conftest import TINY


def shapes_of(name, **arguments):
    return {
        key: tuple(tensor.shape)
        for key, tensor in empty_model(ModelDescription.of(name, **arguments)).state_dict().items()
    }


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "overrides", [{}, {"learn_sigma": False, "num_classes": 10, "in_channels": 3, "input_size": 64}]
)
def test_standard_variants_are_recognised(name, overrides):
    depth = VARIANTS[name]["depth"]
    assert infer_architecture(shapes_of(name, **overrides), depth) == ModelDescription.of(name, **overrides)


def test_heads_off_the_standard_variants_are_asked_for():
    shapes = shapes_of("dit_ti_2", **TINY)
    with pytest.raises(ConfigError, match=r"--num_heads: .* width 24 with 2 blocks is no standard variant"):
        infer_architecture(shapes, 2)
    arguments = infer_architecture(shapes, 2, num_heads=3).arguments
    assert arguments == arguments_of("dit_ti_2", **TINY)


def test_a_standard_width_of_another_depth_keeps_its_heads():
    arguments = infer_architecture(shapes_of("dit_xl_2", depth=3), 3).arguments
    assert arguments.num_heads == 16


def test_a_table_without_a_null_row_is_read_where_the_classes_are_given():
    shapes = shapes_of("dit_ti_2", **TINY, class_dropout_prob=0.0)
    arguments = infer_architecture(shapes, 2, num_heads=3, num_classes=10).arguments
    assert (arguments.num_classes, arguments.class_dropout_prob) == (10, 0.0)


def test_oblong_latents_are_asked_for():
    shapes = shapes_of("dit_s_2", input_size=(4, 6))
    with pytest.raises(ConfigError, match=r"--input_size: .*6 tokens are no square"):
        infer_architecture(shapes, 12)
    assert infer_architecture(shapes, 12, input_size=(4, 6)).arguments.input_size == (4, 6)


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
        infer_architecture(shapes, 12)
