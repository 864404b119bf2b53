"""The recorded products are all that the network computes, and as many as are counted otherwise."""

import pytest
import torch

from dit.bench.products import operations, products, replay
from dit.models import create_model
from dit.models.counts import count_live


@pytest.mark.parametrize("name", ["dit_ti_2", "meanflow_ti_2", "uvit_ti_2"])
def test_the_products_are_those_that_are_counted(name):
    with torch.device("meta"):
        model = create_model(name).eval()
    arguments, t = model.arguments, torch.zeros(1)
    x, y = torch.zeros(1, arguments.in_channels, *arguments.input_size), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        shapes = products(model, (x, t, y), dict.fromkeys(model.condition_names, t))
    macs = operations(shapes) // 2
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    sides = (arguments.input_size[0] // layer.stride[0] for layer in convolutions)
    macs += sum(layer.weight.numel() * side**2 for layer, side in zip(convolutions, sides, strict=True))
    assert macs == count_live(name, arguments).macs
    assert replay(shapes, torch.device("cpu"), torch.float32)() is None
