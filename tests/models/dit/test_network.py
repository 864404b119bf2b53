import re

import pytest
import torch

from dit.errors import ConfigError
from dit.models import create_model
from dit.models.counts import count
from dit.models.families import arguments_of
from tests.goldens import assert_close, load_network

TINY = {"depth": 2, "hidden_size": 48, "num_heads": 4, "input_size": 16, "num_classes": 5}

# depth / D / heads -> parameters (millions) and GMAC at patch 2, 4, 8, as published.
PAPER = {
    "s": ([32.96, 32.95, 33.15], [6.06, 1.41, 0.36]),
    "b": ([130.51, 130.48, 130.88], [23.01, 5.57, 1.42]),
    "l": ([458.10, 458.05, 458.59], [80.70, 19.70, 5.01]),
    "xl": ([675.13, 675.07, 675.68], [118.6, 29.0, 7.39]),
}


@pytest.mark.parametrize("name", ["dit_p2_sigma", "dit_p4_nosigma"])
def test_forward_reproduces_the_original(name):
    model, golden = load_network(name)
    with torch.no_grad():
        assert_close(model(golden["x"], golden["t"], golden["y"]), golden["out"], 2e-6)


@pytest.mark.parametrize("size", PAPER)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_parameters_and_macs_match_the_paper(size, index):
    name = f"dit_{size}_{(2, 4, 8)[index]}"
    found = count(name, arguments_of(name))
    parameters, macs = PAPER[size]
    assert found.parameters / 1e6 == pytest.approx(parameters[index], abs=0.006)
    assert found.macs / 1e9 == pytest.approx(macs[index], rel=0.01)


def test_non_square_input_matches_a_transposed_network():
    """Swapping rows and columns of the input, the patch kernel and the positions transposes the output."""
    torch.manual_seed(0)
    model = create_model("dit_ti_2", **(TINY | {"input_size": (8, 24)}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    turned = create_model("dit_ti_2", **(TINY | {"input_size": (24, 8)}))
    state = model.state_dict()
    state["x_embedder.proj.weight"] = state["x_embedder.proj.weight"].transpose(2, 3)
    state["pos_embed"] = state["pos_embed"].unflatten(1, (4, 12)).transpose(1, 2).flatten(1, 2)
    for key in ("final_layer.linear.weight", "final_layer.linear.bias"):
        state[key] = state[key].unflatten(0, (2, 2, 8)).transpose(0, 1).flatten(0, 2)
    turned.load_state_dict(state)
    x, t, y = torch.randn(2, 4, 8, 24), torch.tensor([5.0, 700.0]), torch.tensor([0, 5])
    with torch.no_grad():
        assert_close(turned(x.transpose(2, 3), t, y).transpose(2, 3), model(x, t, y), 1e-5)


def test_every_block_gets_its_tokens_row_by_row():
    """The convolution leaves them column by column, and kernels compiled for that transpose again and again."""
    model = create_model("dit_s_2", **TINY)
    layouts = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0].is_contiguous()))
    model(torch.zeros(2, 4, 16, 16), torch.zeros(2), torch.zeros(2).long())
    assert layouts == [True, True]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_heads": 5}, "num_heads: expected a divisor of hidden_size 48, found 5"),
        ({"input_size": 15}, "input_size: expected multiples of patch_size 2, found 15x15"),
        ({"patch_size": (2, 4)}, "patch_size: expected an integer, found [2, 4]"),
        ({"mlp_ratio": 1e-9}, "mlp_ratio: expected at least 1/48, found 1e-09"),
        ({"hidden_size": 50, "num_heads": 5}, "hidden_size: expected a multiple of 4"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=f"^model.{re.escape(message)}"):
        create_model("dit_ti_2", **(TINY | overrides))


@pytest.mark.parametrize("shape", [(4, 17, 16), (4, 8, 8), (3, 16, 16)])
def test_latents_of_another_shape_are_refused(shape):
    model = create_model("dit_ti_2", **TINY)
    with pytest.raises(ConfigError, match=f"x: expected latents of 4x16x16, found {'x'.join(map(str, shape))}"):
        model(torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1).long())
