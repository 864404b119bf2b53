"""Every peer computes what we compute, on the same weights."""

import torch

from dit.bench.peers import PlainDiT, diffusers_dit
from dit.models.dit.arguments import DiTArguments
from tests.goldens import assert_close, load_network
from tests.zoo.conftest import random_model

TINY = {"depth": 2, "hidden_size": 48, "num_heads": 4, "input_size": 8, "num_classes": 5}


def test_the_plain_network_is_ours():
    model, golden = load_network("dit_p2_sigma")
    plain = PlainDiT(model.arguments).eval().copy_from(model)
    with torch.no_grad():
        assert_close(plain(golden["x"], golden["t"], golden["y"]), golden["out"], 2e-6)


def test_the_network_of_diffusers_has_our_shape():
    arguments = DiTArguments(patch_size=2, **TINY)
    theirs = diffusers_dit(arguments)
    out = theirs(torch.zeros(2, 4, 8, 8), timestep=torch.tensor([1, 2]), class_labels=torch.tensor([0, 1])).sample
    assert out.shape == (2, 8, 8, 8)
    ours = random_model("dit_ti_2", **TINY)
    trained = sum(p.numel() for name, p in ours.named_parameters() if name.startswith("blocks.0."))
    block = theirs.get_submodule("transformer_blocks.1")
    counted = sum(p.numel() for name, p in block.named_parameters() if not name.startswith("norm1.emb"))
    assert counted == trained
