"""Freshly drawn weights follow the laws that were published: every parameter of every family, by closed form.

n entries, sigma a law's deviation, fan_in the inputs of a row.
"""

from fnmatch import fnmatchcase

import pytest
import torch

from dit.layers.position import sincos_2d
from dit.models import create_model
from dit.models.families import FAMILIES


def zero(tensor, fan_in):
    assert not tensor.any()


def one(tensor, fan_in):
    assert (tensor == 1).all()


def positions(tensor, fan_in):
    side = round(tensor.shape[1] ** 0.5)
    assert torch.equal(tensor[0], sincos_2d(tensor.shape[2], (side, side)))


def normal(std=None, *, of_width=None):
    """By its deviation, or by that times the root of the width."""

    def law(tensor, fan_in):
        # A sample's deviation scatters by sigma / sqrt(2 n); of a hundred entries, one lies beyond 2 sigma.
        assert_moments(tensor, std or of_width * tensor.shape[-1] ** -0.5, 0.5**0.5)
        assert tensor.abs().max() > 2 * tensor.std()

    return law


def xavier(tensor, fan_in):
    assert_uniform(tensor, (6 / (tensor.flatten(1).shape[0] + tensor.flatten(1).shape[1])) ** 0.5)


def torchs_own(tensor, fan_in):
    assert_uniform(tensor, fan_in**-0.5)


def assert_uniform(tensor, bound):
    assert tensor.abs().max() <= bound
    assert tensor.abs().max() >= bound * (1 - 20 / tensor.numel())
    assert_moments(tensor, bound / 3**0.5, 0.2**0.5)  # kurtosis 1.8: sqrt((1.8 - 1) / 4)


def assert_moments(tensor, std, scatter):
    """Within five deviations of a sample's mean and of its deviation."""
    n = tensor.numel()
    assert tensor.mean().abs() <= 5 * std / n**0.5
    assert abs(tensor.square().mean().sqrt() / std - 1) <= 5 * scatter / n**0.5


SMALL = normal(0.02)
# Pattern -> law; the first that a name matches counts.
DIT = {
    "*.adaLN_modulation.1.*": zero,
    "final_layer.linear.*": zero,
    "pos_embed": positions,
    "[tr]_embedder.mlp.?.weight": SMALL,
    "y_embedder.*": SMALL,
    "*.bias": zero,
    "*.weight": xavier,
}
WITH_NORMS = {"*norm*.weight": one} | DIT
MASKED = {"decoder_pos_embed": positions, "mask_token": SMALL}
MDT = MASKED | {"*.relative_position_bias_table": SMALL} | DIT
BEHIND_THE_ENCODER = {
    "[xs]_embedder.proj.weight": xavier,
    "[xs]_embedder.proj.bias": zero,
    "t_embedder.mlp.?.weight": SMALL,
    "y_embedder.*": SMALL,
    "final_layer.linear.*": zero,
    "*norm*.weight": one,
    "*": torchs_own,
}
IMF = {
    "*_tokens": normal(of_width=1),
    "y_embedder.*": normal(of_width=1),
    "x_embedder.*.weight": xavier,
    "?_final_layer.linear.*": zero,
    "*_scale": zero,
    "*.bias": zero,
    "*norm*.weight": one,
    "*_embedder.mlp.?.weight": normal(of_width=1),
    "*.weight": normal(of_width=0.32),
}
LAWS = {
    "dit": DIT,
    "lightningdit": WITH_NORMS,
    "jit": {"in_context_posemb": SMALL} | WITH_NORMS,
    "meanflow": DIT,
    "imf": IMF,
    "pmf": {"pos_embed": SMALL} | IMF,
    "mdt": MDT,
    "mdtv2": MDT,
    "uvit": {
        "label_emb.weight": normal(1.0),
        "*norm*.weight": one,
        "patch_embed.*": torchs_own,
        "final_layer.*": torchs_own,
        "*.bias": zero,
        "*": SMALL,
    },
    "ddt": {"final_layer.adaLN_modulation.*": zero} | BEHIND_THE_ENCODER,
    "ditdh": {"t_embedder.W": normal(1.0), "pos_embed": positions, "*.adaLN_modulation.1.*": zero} | BEHIND_THE_ENCODER,
    "maskdit": {"decoder_layer.linear.*": zero} | MASKED | DIT,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_follows_its_law(name):
    torch.manual_seed(0)
    network = create_model(next(iter(FAMILIES[name].variants)))
    parameters, used = dict(network.named_parameters()), set()
    for parameter, tensor in parameters.items():
        pattern = next(pattern for pattern in LAWS[name] if fnmatchcase(parameter, pattern))
        used.add(pattern)
        weight = parameters.get(parameter.replace(".bias", ".weight"), tensor)
        LAWS[name][pattern](tensor.detach(), weight[0].numel())
    assert used == LAWS[name].keys()
