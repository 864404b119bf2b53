import math

import torch

from dit.layers.embed import PatchEmbed, TimestepEmbedder, patchify
from dit.layers.modulation import layer_norm
from dit.layers.position import sincos_2d


def test_patch_embedding_is_a_linear_map_of_the_patch():
    embed = PatchEmbed(4, 12, 2)
    x = torch.randn(2, 4, 6, 8)
    weight = embed.proj.weight.permute(0, 2, 3, 1).flatten(1)  # (D, p * p * C)
    torch.testing.assert_close(embed(x), patchify(x, 2) @ weight.T + embed.proj.bias)


def test_positions_against_the_formula():
    table = sincos_2d(16, (3, 5))
    row, column, i = 2, 4, 1
    omega = 10000 ** (-i / 4)
    token = table[row * 5 + column]
    expected = [math.sin(column * omega), math.cos(column * omega), math.sin(row * omega), math.cos(row * omega)]
    torch.testing.assert_close(token[[i, 4 + i, 8 + i, 12 + i]], torch.tensor(expected))


def test_time_features_against_the_formula():
    features = TimestepEmbedder(8).features(torch.tensor([0.0, 17.0]))
    assert features.shape == (2, 256)
    assert torch.equal(features[0], torch.cat([torch.ones(128), torch.zeros(128)]))
    expected = [math.cos(17 * 10000 ** (-5 / 128)), math.sin(17 * 10000 ** (-5 / 128))]
    torch.testing.assert_close(features[1, [5, 133]], torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_layer_norm_eps_on_an_input_of_small_variance():
    """With variance 1e-4 the eps of 1e-6 changes the result by half a percent, another eps by another amount."""
    x = 0.01 * torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    expected = x / math.sqrt(1e-4 + 1e-6)
    torch.testing.assert_close(layer_norm(4)(x), expected, rtol=1e-6, atol=0)
