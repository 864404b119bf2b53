"""Each form of the activation against float64, and the fused kernel against the separate ones."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu as reference

from dit.layers import linear as linear_file
from dit.layers.linear import _Linear, gelu, has_fused_kernel, linear, linear_gelu, weight_gradient

X = torch.linspace(-12, 12, 4001)


def compiled_form(x, monkeypatch):
    """The form that a compiler sees, run without one."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        return gelu(x)


def test_the_compiled_form_is_the_same_function(monkeypatch):
    torch.testing.assert_close(compiled_form(X, monkeypatch), reference(X, approximate="tanh"), rtol=0, atol=2e-6)
    assert not torch.equal(compiled_form(X, monkeypatch), gelu(X))  # it is another form indeed
    error = (
        compiled_form(X.bfloat16(), monkeypatch).double() - reference(X.bfloat16().double(), approximate="tanh")
    ).abs()
    plain = (gelu(X.bfloat16()).double() - reference(X.bfloat16().double(), approximate="tanh")).abs()
    assert error.max() <= 1.01 * plain.max()


def test_the_compiled_form_has_the_same_gradient(monkeypatch):
    gradients = []
    for form in (lambda x: compiled_form(x, monkeypatch), lambda x: reference(x, approximate="tanh")):
        x = X.clone().requires_grad_()
        form(x).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=5e-6)


@pytest.mark.skipif(not has_fused_kernel(), reason="oneDNN has no bfloat16 kernel for this processor or limit")
def test_the_fused_kernel_is_no_less_exact_than_separate_ones():
    torch.manual_seed(0)
    layer = nn.Linear(64, 256).bfloat16()
    x = torch.randn(8, 16, 64, dtype=torch.bfloat16)
    product = nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
    exact = reference(product, approximate="tanh")
    with torch.no_grad():
        assert linear_file._can_fuse(x, layer)
        fused, separate = linear_gelu(x, layer), gelu(layer(x))
        torch.testing.assert_close(linear(x, layer), layer(x), rtol=2**-7, atol=2**-7)
    assert (fused.double() - exact).norm() <= 1.01 * (separate.double() - exact).norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_a_plain_path(dtype, monkeypatch):
    monkeypatch.setattr(linear_file, "has_fused_kernel", lambda: False)
    layer = nn.Linear(8, 16).to(dtype)
    x = torch.randn(2, 8, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(linear_gelu(x, layer), gelu(layer(x)))


def test_a_missing_kernel_is_noticed(monkeypatch):
    """Seen on processors without AVX-512; torch without oneDNN has not even the operator, an AttributeError."""

    def refuse(*args):
        raise RuntimeError(
            "could not create a primitive descriptor for the inner product forward propagation primitive"
        )

    monkeypatch.setattr(linear_file, "_fused", refuse)
    assert not has_fused_kernel.__wrapped__()


def test_gradients_and_float32_take_the_plain_path():
    layer = nn.Linear(8, 8)
    x = torch.randn(2, 8)
    with torch.no_grad():
        assert torch.equal(linear_gelu(x, layer), gelu(layer(x)))
    wide = layer.bfloat16()
    assert linear_gelu(x.bfloat16(), wide).requires_grad


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_the_gradients_of_a_linear_are_exact(shape, has_bias):
    torch.manual_seed(0)
    tensors = (torch.randn(2, 5, shape[0]), torch.randn(shape[1], shape[0]), torch.randn(shape[1]))
    tensors = [tensor.double().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(_Linear.apply, tensors if has_bias else [*tensors[:2], None])


def test_a_layer_without_a_bias_trains_in_bfloat16():
    layer = nn.Linear(6, 10, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        linear(torch.ones(2, 6), layer).sum().backward()
    torch.testing.assert_close(layer.weight.grad, torch.full((10, 6), 2.0))


@pytest.mark.parametrize("shape", [(48, 192), (192, 48)])
def test_in_training_its_gradients_are_no_less_exact_than_autocasts(shape):
    torch.manual_seed(0)
    layer = nn.Linear(*shape)
    x = torch.randn(64, shape[0]).bfloat16().float()
    weight = layer.weight.detach().bfloat16().double().requires_grad_()
    nn.functional.linear(x.double(), weight).square().sum().backward()
    errors = []
    for call in (linear, lambda x, layer: layer(x)):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = call(x, layer)
        assert out.dtype == torch.bfloat16
        (out.float() - layer.bias).square().sum().backward()
        assert layer.weight.grad.dtype == torch.float32
        errors.append((layer.weight.grad.double() - weight.grad).norm() / weight.grad.norm())
    assert errors[0] <= 1.05 * errors[1]


@pytest.mark.parametrize(("outputs", "inputs"), [(3, 5), (5, 3)])
def test_a_weight_gradient_lies_in_memory_as_the_weight_does(outputs, inputs):
    gradient, x = torch.randn(7, outputs), torch.randn(7, inputs)
    found = weight_gradient(gradient, x)
    torch.testing.assert_close(found, gradient.t() @ x)
    assert found.is_contiguous()


def test_a_frozen_layer_costs_no_gradient_of_its_weight(monkeypatch):
    def never(gradient, x):
        raise AssertionError("the gradient of a frozen weight was computed")

    monkeypatch.setattr(linear_file, "weight_gradient", never)
    x, weight, bias = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4), torch.randn(5)
    _Linear.apply(x, weight, bias).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, 4))
