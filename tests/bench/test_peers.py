"""Every peer computes what we compute, on the same weights."""

import torch

from dit.bench.peers import PlainDiT, diffusers_dit, inputs
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


def test_the_network_of_diffusers_is_ours():
    ours = random_model("dit_ti_2", depth=2, hidden_size=48, num_heads=4, input_size=8, num_classes=5)
    state = {name: tensor for name, tensor in ours.state_dict().items() if name != "pos_embed"}
    theirs = diffusers_dit(ours.arguments)
    theirs.load_state_dict(from_native(state, DIFFUSERS))
    x, t, y = inputs(ours, 2, torch.device("cpu"))
    t = torch.zeros_like(t)  # of other times their embedding has other frequencies
    with torch.no_grad():
        found, expected = theirs(x, timestep=t.long(), class_labels=y).sample, ours(x, t, y)
    assert_close(found, expected, 1e-4)  # a norm of theirs adds 1e-5 to the variance, ours 1e-6
