"""Blocks that compute again what they did not keep have the same losses and gradients, and keep less."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from dit.models import create_model
from dit.models.families import variants
from dit.training.activations import recompute_blocks
from dit.training.memory import Allocations
from tests.models.test_families import SMALL, call, inputs
from tests.training.test_loop import assert_same_end, train, weights


def network_of(name):
    """A network of a family, with dropout where it has some, whose weights are all drawn."""
    torch.manual_seed(0)
    patch = variants()[name].variants[name].get("patch_size", 1)
    dropout = {"dropout": 0.5} if "dropout" in variants()[name].arguments.model_fields else {}
    network = create_model(name, num_classes=5, input_size=4 * patch, **dropout).train()
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def pass_through(network, *, autocast=False):
    """Loss, and gradients by name."""
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = call(network, *inputs(network, batch=8)).float().square().mean()
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def bytes_kept(network):
    """What the forward pass leaves for the backward pass."""
    x, t, y = inputs(network, batch=8)
    with Allocations(known=(x, *network.parameters())) as allocations:
        output = call(network, x, t, y)
        return allocations.now - output.nbytes


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # a norm with float32 weights, which torch tells once
@pytest.mark.parametrize(("name", "autocast"), [*((name, True) for name in SMALL), ("dit_ti_2", False)])
def test_losses_and_gradients_are_equal(name, autocast):
    loss, gradients = pass_through(network_of(name), autocast=autocast)
    for kind in ("blocks", "selective"):
        other, others = pass_through(recompute_blocks(network_of(name), kind), autocast=autocast)
        # The same operations on the same numbers, in the same order.
        assert torch.equal(other, loss)
        assert gradients.keys() == others.keys()
        for key, gradient in gradients.items():
            assert torch.equal(gradient, others[key]), (kind, key)


@pytest.mark.parametrize("name", ["dit_ti_2", "imf_ti_2", "uvit_ti_2"])
def test_less_is_kept(name):
    whole = bytes_kept(network_of(name))
    # Blocks keep their inputs, one tensor of some thirty; a product or two of each are kept besides.
    assert bytes_kept(recompute_blocks(network_of(name), "blocks")) < 0.1 * whole
    assert bytes_kept(recompute_blocks(network_of(name), "selective")) < 0.3 * whole


@pytest.mark.filterwarnings("ignore")  # torch warns of its own doings while it compiles
@pytest.mark.parametrize("kind", ["blocks", "selective"])
def test_compiled_blocks_do_so_in_one_graph(kind):
    torch._dynamo.reset()
    loss, gradients = pass_through(network_of("dit_ti_2"))
    network = recompute_blocks(network_of("dit_ti_2"), kind)
    graphs = CompileCounterWithBackend("aot_eager")
    for block in network.block_list():
        block.compile(backend=graphs, fullgraph=True)
    other, others = pass_through(network)
    assert graphs.frame_count == 1
    # Operations are taken apart, and sums of float32 come in another order.
    torch.testing.assert_close(other, loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(others, gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["blocks", "selective"])
def test_a_run_ends_in_the_same_weights(kind, whole, tmp_path):
    train(tmp_path / "run", **{"train.activation_checkpointing": kind})
    assert_same_end(tmp_path / "run", whole)


def test_a_resumed_run_may_choose_anew(whole, tmp_path):
    train(tmp_path / "run", **{"train.max_steps": 3})
    train(tmp_path / "run", resume=True, **{"train.activation_checkpointing": "blocks", "train.deterministic": True})
    assert weights(tmp_path / "run").keys() == weights(whole).keys()
