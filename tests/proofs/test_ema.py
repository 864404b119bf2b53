"""Proof 14, second half: averages of the weights."""

import pytest
import torch
from torch import nn

from dit.training.config import EmaConfig
from dit.training.weights.ema import Ema


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("num", [1, 7, 300])
def test_proof_14_an_average_that_starts_at_zero(num, warmup):
    """Of a constant theta it is theta (1 - d^n), or theta (1 - d_1 ... d_n) where the decay warms up."""
    model = nn.Linear(3, 2).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    ema = Ema(model, EmaConfig(decay=0.97, warmup=warmup))
    theta = torch.linspace(-2, 3, 6, dtype=torch.float64).reshape(2, 3)
    model.weight.data.copy_(theta)
    kept = 1.0
    for step in range(1, num + 1):
        ema.update(step)
        kept *= min(0.97, (1 + step) / (10 + step)) if warmup else 0.97
    torch.testing.assert_close(ema.network.weight, theta * (1 - kept), rtol=1e-12, atol=1e-12)
