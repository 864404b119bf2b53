"""Every peer computes what we compute, on the same weights."""

import torch

from dit.bench.peers import PlainDiT, diffusers_dit
from dit.models.dit.layouts import DIFFUSERS
from dit.zoo.layouts.table import from_native
from tests.goldens import assert_close, load_network
from tests.zoo.conftest import random_model


def test_the_plain_network_is_ours():
    model, golden = load_network("dit_p2_sigma")
    plain = PlainDiT(model.arguments).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert_close(plain(golden["x"], golden["t"], golden["y"]), golden["out"], 2e-6)


def test_the_network_of_diffusers_has_our_shape():
    ours = random_model("dit_ti_2", depth=2, hidden_size=48, num_heads=4, input_size=8, num_classes=5)
    state = {name: tensor for name, tensor in ours.state_dict().items() if name != "pos_embed"}
    diffusers_dit(ours.arguments).load_state_dict(from_native(state, DIFFUSERS))
