"""The derivative along a path, against finite differences in float64, on every way that a network can be called."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from dit.diffusion.total_derivative import total_derivative
from dit.layers.attention import attend, explicit_attention
from dit.models.registry import create_model

SIZE = {"hidden_size": 24, "num_heads": 2, "depth": 2, "num_classes": 3, "input_size": 4, "in_channels": 2}
NETWORKS = {
    "meanflow_ti_2": SIZE,
    "imf_ti_2": SIZE | {"head_depth": 1},
    "pmf_ti_8": SIZE | {"head_depth": 1, "input_size": 16},
}
R, Y = torch.tensor([0.0, 0.5, 0.125]), torch.tensor([0, 3, 1])


def network(name="meanflow_ti_2", dtype=torch.float64):
    torch.manual_seed(0)
    model = create_model(name, **NETWORKS[name]).to(dtype)
    for parameter in model.parameters():  # initial zeros hide what lies behind them
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def case(model, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    shape = (3, model.arguments.in_channels, *model.arguments.input_size)
    x, v = (torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2))
    t, r = torch.tensor([1.0, 0.75, 0.375]).to(dtype), R.to(dtype)

    def function(model, x, t):
        told = {"r": r} if model.condition_names == ("r",) else {"h": t - r}
        return model(x, t, Y, **told)

    return function, x, t, v


def difference(model, function, x, t, v, step=1e-3):
    """Return the central difference of fourth order."""
    with torch.no_grad():
        near, far = (
            function(model, x + k * step * v, t + k * step) - function(model, x - k * step * v, t - k * step)
            for k in (1, 2)
        )
    return (8 * near - far) / (12 * step)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_limit_of_differences(name):
    model = network(name)
    function, x, t, v = case(model)
    found = total_derivative(model, function, x, t, v)
    assert not found.requires_grad
    expected = difference(model, function, x, t, v)
    # The difference's own error: its step to the fourth times the fifth derivative, and rounding over the step.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 * expected.abs().max().item())


def test_attention_written_out_for_the_derivative_is_attention():
    draw = torch.Generator().manual_seed(0)
    q, k, v, dq, dk, dv = (torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=draw) for _ in range(6))

    def function(_, x, t):
        return attend(q + t * dq, k + t * dk, v + x)

    zero = torch.zeros((), dtype=torch.float64)
    found = total_derivative(None, function, torch.zeros_like(v), zero, dv)
    _, expected = torch.func.jvp(explicit_attention, (q, k, v), (dq, dk, dv))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    fused = scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attend(q, k, v), fused, rtol=1e-12, atol=1e-12)


class UnderAutocast(torch.nn.Module):
    """A network as training wraps it."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.without_autocast = model.forward

    def forward(self, *args, **told):
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(*args, **told).float()


def test_autocast_does_not_round_it():
    model = network(dtype=torch.float32)
    function, x, t, v = case(model, torch.float32)
    expected = total_derivative(model, function, x, t, v)

    def of_network(called, x, t):
        return called(x, t, Y, r=R)

    wrapped = UnderAutocast(model)
    assert torch.equal(total_derivative(wrapped, of_network, x, t, v), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(total_derivative(model, of_network, x, t, v), expected)


@pytest.mark.filterwarnings("ignore")  # torch warns of its own doings while it compiles
def test_compiled_blocks_have_it():
    model = network()
    function, x, t, v = case(model)
    expected = total_derivative(model, function, x, t, v)
    for block in model.block_list():
        block.compile(backend="eager")
    with torch.no_grad():
        model(x, t, Y, r=t)
    assert torch.equal(total_derivative(model, function, x, t, v), expected)
