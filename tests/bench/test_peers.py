"""Every peer computes what we compute, on the same weights."""

import math

import torch

from dit.bench import limits
from dit.bench.peers import PlainDiT, diffusers_dit
from dit.models.variants import num_tokens, resolve_arguments
from tests.goldens import assert_close, load_network
from tests.zoo.conftest import random_model

TINY = {"depth": 2, "hidden_size": 48, "num_heads": 4, "input_size": 8, "num_classes": 5}


def test_the_plain_network_is_ours():
    model, golden = load_network("dit_p2_sigma")
    plain = PlainDiT(model.config).eval().copy_from(model)
    with torch.no_grad():
        assert_close(plain(golden["x"], golden["t"], golden["y"]), golden["out"], 2e-6)


def test_the_network_of_diffusers_has_our_shape():
    arguments = resolve_arguments("dit_ti_2", **TINY)
    theirs = diffusers_dit(arguments)
    out = theirs(torch.zeros(2, 4, 8, 8), timestep=torch.tensor([1, 2]), class_labels=torch.tensor([0, 1])).sample
    assert out.shape == (2, 8, 8, 8)
    ours = random_model("dit_ti_2", **TINY)
    trained = sum(p.numel() for name, p in ours.named_parameters() if name.startswith("blocks.0."))
    block = theirs.get_submodule("transformer_blocks.1")
    counted = sum(p.numel() for name, p in block.named_parameters() if not name.startswith("norm1.emb"))
    assert counted == trained


def test_limits_are_of_the_products_alone(monkeypatch):
    """Instead of seconds, multiply-accumulates: forward those of the blocks, a step three times as many."""
    monkeypatch.setattr(limits, "product_seconds", lambda *sizes, batch=1: (batch or 1) * math.prod(sizes[:3]))
    arguments = resolve_arguments("dit_ti_2", **TINY)
    width, tokens = arguments["hidden_size"], num_tokens(arguments)
    per_block = tokens * width * width * (4 + 2 * arguments["mlp_ratio"]) + 2 * tokens * tokens * width
    forward = limits.forward_seconds(arguments, 2, torch.float32)
    assert forward == 2 * arguments["depth"] * per_block
    assert limits.step_seconds(arguments, 2, torch.float32) == 3 * forward


def test_every_convolution_is_in_the_limit(monkeypatch):
    monkeypatch.setattr(limits, "timed", lambda run: (run(), 1.0)[1])
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3), torch.nn.SiLU())
    assert limits.module_seconds(network, torch.zeros(1, 3, 16, 16), torch.float32) == 2
