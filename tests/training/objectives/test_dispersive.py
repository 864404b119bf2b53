"""The repulsion of tokens against all pairs written out, and what it does to them."""

import math

import pytest
import torch

from dit.training.objectives.config import DispersiveConfig
from dit.training.objectives.dispersive import Dispersive
from tests.training.objectives.passes import pass_of_tokens


def loss_of(tokens, **fields):
    return Dispersive(DispersiveConfig(block=1, **fields), None)(pass_of_tokens(tokens))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_all_pairs_written_out(temperature):
    """The mean over a whole group x group matrix, the diagonal of zeros included, as the public code has it."""
    tokens = torch.randn(6, 5, 7, dtype=torch.float64) + 3
    loss = loss_of(tokens.float(), group=3, temperature=temperature)
    for start in (0, 3):
        z = tokens[start : start + 3].flatten(1)
        pairs = torch.nn.functional.pdist(z).square() / z.shape[1]
        whole = torch.cat([pairs, pairs, torch.zeros(3)])
        expected = (-whole / temperature).exp().mean().log()
        torch.testing.assert_close(loss[start : start + 3].double(), expected.expand(3), rtol=1e-5, atol=0)


def test_equal_tokens_cost_nothing_and_far_ones_earn_the_most():
    assert loss_of(torch.ones(4, 2, 3), group=4).abs().max() < 1e-6
    far = 100 * torch.arange(4.0).view(4, 1, 1).expand(4, 2, 3)
    torch.testing.assert_close(loss_of(far, group=4), torch.full((4,), -math.log(4)))


def test_it_pushes_apart():
    tokens = torch.randn(4, 2, 3, requires_grad=True)
    loss_of(tokens, group=4).mean().backward()
    moved = tokens - 0.1 * tokens.grad
    assert torch.pdist(moved.flatten(1)).sum() > torch.pdist(tokens.flatten(1)).sum()


def test_groups_do_not_see_each_other():
    tokens = torch.randn(6, 2, 3)
    changed = torch.cat([tokens[:3], torch.randn(3, 2, 3)])
    one, other = loss_of(tokens, group=3), loss_of(changed, group=3)
    assert torch.equal(one[:3], other[:3])
    assert not torch.equal(one[3:], other[3:])
