"""Averages of the weights against their closed forms."""

import pytest
import torch
from torch import nn

from dit.training.config import EmaConfig
from dit.training.weights.ema import Ema, power_function
from dit.training.weights.posthoc import sigma_rel_to_gamma


def constant(value, shape=(2, 3)):
    model = nn.Linear(shape[1], shape[0], bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_several_averages_do_not_mix():
    model = constant(0.0)
    ema = Ema(model, EmaConfig(decay=0.5, further_decays=(0.9,), sigma_rels=(0.1,)))
    nn.init.constant_(model.weight, 1.0)
    for step in (1, 2):
        ema.update(step)
    assert list(ema.averages) == ["ema", "ema-0.9", "power-0.1"]
    found = [ema.tensors(name)["weight"][0, 0].item() for name in ema.averages]
    assert found == pytest.approx([1 - 0.5**2, 1 - 0.9**2, 1.0])


def test_the_average_is_a_network_of_its_own():
    model = constant(1.0)
    ema = Ema(model, EmaConfig(decay=0.5))
    nn.init.constant_(model.weight, 2.0)
    assert ema.network(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]
    ema.update(1)
    assert ema.network(torch.ones(1, 3)).tolist() == [[4.5, 4.5]]
    assert not ema.network.weight.requires_grad
    assert not ema.network.training


def test_frozen_parameters_are_shared_and_buffers_copied():
    model = nn.BatchNorm1d(2)
    model.bias.requires_grad_(False)
    ema = Ema(model, EmaConfig(decay=0.5))
    nn.init.constant_(model.bias, 5.0)
    nn.init.constant_(model.running_mean, 5.0)
    nn.init.constant_(model.weight, 2.0)
    ema.update(1)
    found = {name: tensor.tolist() for name, tensor in ema.tensors("ema").items()}
    assert (found["bias"], found["running_mean"], found["weight"]) == ([5.0, 5.0], [0.0, 0.0], [1.5, 1.5])
    assert set(Ema(model, EmaConfig(), whole=False).tensors("ema")) == {"weight"}


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.25])
def test_power_average_weights_step_k_by_the_integral_of_its_profile(sigma_rel):
    gamma, num_steps = sigma_rel_to_gamma(sigma_rel), 50
    weights = torch.zeros(num_steps, dtype=torch.float64)
    decay = power_function(sigma_rel)
    for step in range(1, num_steps + 1):
        weights = weights * decay(step)
        weights[step - 1] = 1 - decay(step)
    edges = (torch.arange(num_steps + 1, dtype=torch.float64) / num_steps) ** (gamma + 1)
    torch.testing.assert_close(weights, edges.diff(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("changes", [{"further_decays": (0.9,)}, {"sigma_rels": (0.1, 0.1)}])
def test_the_same_average_twice_is_refused(changes):
    with pytest.raises(ValueError, match="differ from each other"):
        EmaConfig(decay=0.9, **changes)
