"""The 8-bit linear layer against its own definition in exact integers, and against the layer it replaces."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from dit.errors import ConfigError
from dit.layers.int8 import LARGEST, Int8Linear
from dit.layers.linear import linear, linear_gelu
from dit.models import create_model

TINY = {"depth": 2, "hidden_size": 48, "num_heads": 4, "input_size": 8, "num_classes": 5}


def layer(dtype=torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, 32).to(dtype).requires_grad_(False)


def by_definition(x, original):
    """s_x s_w (q_x q_w) + b in float64."""
    weight = original.weight.double()
    s_w = weight.abs().amax(dim=1) / LARGEST
    s_x = x.double().abs().max() / LARGEST
    q_w, q_x = (weight / s_w[:, None]).round(), (x.double() / s_x).round()
    assert max(q_w.abs().max(), q_x.abs().max()) <= 127
    return s_x * s_w * (q_x @ q_w.t()) + original.bias.double()


def test_it_is_its_definition():
    x, original = torch.randn(3, 7, 48), layer()
    found = Int8Linear(original)(x)
    assert found.shape == (3, 7, 32)
    torch.testing.assert_close(found.double(), by_definition(x, original), rtol=0, atol=1e-5)


def test_gelu_is_applied_to_the_sum():
    x, quantised = torch.randn(5, 48), Int8Linear(layer())
    torch.testing.assert_close(linear_gelu(x, quantised), gelu(linear(x, quantised), approximate="tanh"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_near_the_layer_it_replaces(dtype):
    x, original = torch.randn(64, 48).to(dtype), layer(dtype)
    found, expected = Int8Linear(original)(x), original(x)
    assert found.dtype == dtype
    assert (found - expected).norm() < 0.015 * expected.norm()


@pytest.mark.parametrize("largest", [0.1, 1.0, 1.37, 255.0, 3e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_numbers_keep_their_sign(largest, dtype):
    one = nn.Linear(2, 1, bias=True).to(dtype).requires_grad_(False)
    one.weight.copy_(torch.tensor([[1.0, 0.0]]))
    one.bias.zero_()
    x = torch.tensor([[largest, 0.0], [-largest, 0.0]], dtype=dtype)
    torch.testing.assert_close(Int8Linear(one)(x), x[:, :1], rtol=0.02, atol=0)


def test_nothing_but_zeros_stays_zero():
    zero = nn.Linear(4, 3).requires_grad_(False)
    zero.weight.zero_()
    torch.testing.assert_close(Int8Linear(zero)(torch.zeros(2, 4)), zero.bias.expand(2, 3))


def test_a_network_in_int8_is_near_the_network():
    model = create_model("dit_s_2", **TINY).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    inputs = torch.randn(4, 4, 8, 8), torch.full((4,), 300.0), torch.arange(4)
    with torch.no_grad():
        expected = model(*inputs)
        found = model.quantize_blocks()(*inputs)
    assert 0 < (found - expected).norm() < 0.1 * expected.norm()


def test_another_device_is_refused():
    with torch.device("meta"):
        model = create_model("dit_s_2", **TINY)
    with pytest.raises(ConfigError, match=r"int8: expected a CPU .*, found meta"):
        model.quantize_blocks()
