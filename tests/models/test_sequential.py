"""Routed tokens, against a network that goes all the way with every token and hides the routed ones from attention."""

import pytest
import torch

from dit.layers import attention
from dit.models import create_model
from dit.models.network import CanRoute
from dit.models.registry import network_class

SMALL = {"hidden_size": 24, "depth": 4, "num_heads": 2, "num_classes": 3}
LATENTS = {"input_size": 8, "in_channels": 2}
NETWORKS = {
    "dit_ti_2": {**SMALL, **LATENTS, "qk_norm": True},
    "lightningdit_ti_2": {**SMALL, **LATENTS},
    "meanflow_ti_2": {**SMALL, **LATENTS},
    # The class tokens join before the route, and on it.
    "jit_ti_8": {**SMALL, "input_size": 32, "context_start": 1},
    "jit_ti_8 on the way": {**SMALL, "input_size": 32, "context_start": 2},
}
LEAVE, REJOIN = 1, 3


def drawn(name):
    torch.manual_seed(0)
    network = create_model(name.split()[0], **NETWORKS[name]).double().eval()
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    size, channels = network.arguments.input_size, network.arguments.in_channels
    x, t, y = torch.randn(2, channels, *size).double(), torch.tensor([0.2, 0.9]).double(), torch.tensor([0, 3])
    return network, (x, t, y), {"r": t / 2} if "r" in network.condition_names else {}


def with_hidden_tokens(monkeypatch, network, keep):
    """Let the blocks on the way see the tokens keep alone, and change no others."""
    is_kept = torch.zeros(len(keep), network.num_tokens, dtype=torch.bool).scatter(1, keep, True)
    on_the_way = False

    def seen(num_tokens):
        others = torch.ones(len(keep), num_tokens - network.num_tokens, dtype=torch.bool)
        return torch.cat([others, is_kept], dim=1)

    def attend(q, k, v):
        logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if on_the_way:
            logits = logits.masked_fill(~seen(q.shape[2])[:, None, None], -torch.inf)
        return logits.softmax(-1) @ v

    def before(block, given):
        nonlocal on_the_way
        on_the_way = block in network.block_list()[LEAVE:REJOIN]

    def after(block, given, made):
        return torch.where(seen(made.shape[1])[..., None], made, given[0]) if on_the_way else made

    monkeypatch.setattr(attention, "attend", attend)
    for block in network.block_list():
        block.register_forward_pre_hook(before)
        block.register_forward_hook(after)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_routed_pass_is_one_that_hides_tokens(name, monkeypatch):
    network, inputs, conditions = drawn(name)
    keep = torch.rand(2, network.num_tokens).argsort(1)[:, : network.num_tokens // 3]
    route = {"leave_after": LEAVE, "rejoin_after": REJOIN, "after": [1, 3, 4]}
    output, tokens = network.forward_routed(*inputs, keep, **route, **conditions)
    with_hidden_tokens(monkeypatch, network, keep)
    expected, expected_tokens = network.forward_intermediates(*inputs, after=[1, 3, 4], **conditions)
    # Two ways to the same sums of float64.
    torch.testing.assert_close([output, *tokens], [expected, *expected_tokens], rtol=1e-9, atol=1e-9)
    plain = create_model(name.split()[0], **NETWORKS[name]).double().eval()
    plain.load_state_dict(network.state_dict())
    assert not torch.allclose(plain(*inputs, **conditions), expected, atol=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_all_tokens_it_is_the_plain_pass(name):
    network, inputs, conditions = drawn(name)
    keep = torch.rand(2, network.num_tokens).argsort(1)
    output, _ = network.forward_routed(*inputs, keep, leave_after=0, rejoin_after=4, **conditions)
    torch.testing.assert_close(output, network(*inputs, **conditions), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mdt_ti_2", "mdtv2_ti_2", "maskdit_ti_2", "uvit_ti_2", "ddt_ti_2", "ditdh_ti_2"])
def test_links_across_blocks_have_no_route(name):
    assert not issubclass(network_class(name), CanRoute)
