"""Low-rank updates against their formula, and merged against applied."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from dit.models.lora import LoraLinear, _Updated, add_lora, merge
from dit.models.registry import create_model
from dit.models.updates import update_shapes

TINY = {"input_size": 4, "hidden_size": 24, "depth": 2, "num_heads": 2, "num_classes": 3}


def network():
    """A tiny network in which neither a weight nor an update is zero."""
    torch.manual_seed(0)
    model = create_model("dit_ti_2", **TINY)
    add_lora(model, ["*attn.qkv", "blocks.0.adaLN*"], rank=3, alpha=6.0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def test_an_updated_layer_is_its_formula():
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(5, 7), rank=2, alpha=3.0)
    nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    a, b = layer.lora_A.weight.double(), layer.lora_B.weight.double()
    expected = linear(x, layer.weight.double() + 3 / 2 * b @ a, layer.bias.double())
    torch.testing.assert_close(layer(x.float()).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("has_bias", [True, False])
def test_its_gradients_are_those_of_its_formula(has_bias):
    layer = LoraLinear(nn.Linear(5, 7, bias=has_bias), rank=2, alpha=3.0).double()
    for parameter in (layer.weight, *([layer.bias] if has_bias else [])):
        parameter.requires_grad_(False)
    nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(4, 6, 5, dtype=torch.float64, requires_grad=True)
    assert layer(x).grad_fn.name() == "_UpdatedBackward"
    a, b = layer.lora_A.weight, layer.lora_B.weight
    assert torch.autograd.gradcheck(_Updated.apply, (x, layer.weight, layer.bias, a, b, 1.5))
    found = torch.autograd.grad(layer(x).square().sum(), (x, a, b))
    expected = torch.autograd.grad(
        (linear(x, layer.weight, layer.bias) + 1.5 * x @ a.t() @ b.t()).square().sum(), (x, a, b)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")  # in which torch's rules of derivatives are written
def test_the_derivative_along_a_path_knows_the_update():
    layer = LoraLinear(nn.Linear(5, 7), rank=2, alpha=3.0)
    nn.init.normal_(layer.lora_B.weight)
    layer.weight.requires_grad_(False)
    layer.bias.requires_grad_(False)
    x, along = torch.randn(2, 4, 5)
    with torch.no_grad():  # as average velocities are derived
        _, found = torch.func.jvp(layer, (x,), (along,))
    expected = linear(along, layer.weight + 1.5 * layer.lora_B.weight @ layer.lora_A.weight)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_update_of_a_trained_or_rounded_weight_is_added_to_the_output():
    layer, x = LoraLinear(nn.Linear(5, 7), rank=2, alpha=3.0), torch.randn(4, 5)
    assert "_Updated" not in layer(x).grad_fn.name()  # the weight wants its own gradient
    for parameter in (layer.weight, layer.bias):
        parameter.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        assert "_Updated" not in layer(x).grad_fn.name()


def test_an_update_begins_at_zero_and_keeps_the_layers_parameters():
    layer = nn.Linear(5, 7)
    updated = LoraLinear(layer, rank=2, alpha=3.0)
    x = torch.randn(4, 5)
    assert torch.equal(updated(x), layer(x))
    assert updated.weight is layer.weight
    assert updated.lora_A.weight.abs().max() <= 5**-0.5
    assert set(updated.state_dict()) == {"weight", "bias", "alpha", "lora_A.weight", "lora_B.weight"}


def test_only_the_targets_are_updated():
    names = {name for name, layer in network().named_modules() if isinstance(layer, LoraLinear)}
    assert names == {"blocks.0.attn.qkv", "blocks.1.attn.qkv", "blocks.0.adaLN_modulation.1"}


def test_merged_weights_give_the_same_output():
    model, plain = network().eval(), create_model("dit_ti_2", **TINY).eval()
    plain.load_state_dict(merge(model.state_dict()), strict=True)
    inputs = torch.randn(2, 4, 4, 4), torch.tensor([10.0, 500.0]), torch.tensor([0, 3])
    # Sums of float32 in another order.
    torch.testing.assert_close(plain(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_merging_rounds_once(dtype):
    tensors = {
        name: value.to(dtype) if "attn.qkv.weight" in name else value for name, value in network().state_dict().items()
    }
    merged = merge(tensors)["blocks.0.attn.qkv.weight"]
    a, b, weight = (
        tensors[f"blocks.0.attn.qkv.{name}"].double() for name in ("lora_A.weight", "lora_B.weight", "weight")
    )
    assert merged.dtype == dtype
    torch.testing.assert_close(merged, (weight + 2 * b @ a).to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-7)


def test_the_shapes_of_an_update_are_those_of_its_layer():
    shapes = {"a.weight": (7, 5), "table.weight": (3,)}
    found = {"a.lora_A.weight": (2, 5), "b.lora_A.weight": (2, 5), "table.lora_A.weight": (2, 5)}
    assert update_shapes(shapes, found) == {"a.lora_A.weight": [2, 5], "a.lora_B.weight": [7, 2], "a.alpha": []}
