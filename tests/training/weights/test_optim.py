"""Optimizer by name, schedule as a function of the step, state as named tensors and back."""

import json

import pytest
import torch
from torch import nn

from dit.errors import ConfigError, DitError
from dit.training.config import OptimConfig
from dit.training.weights.optim import (
    create_optimizer,
    load_optimizer_state,
    optimizer_state,
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def train(model, optimizer, num_steps, start=0):
    for step in range(start, start + num_steps):
        x = torch.sin(torch.arange(6.0) * (step + 1)).view(2, 3)
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_torchs(weight_decay):
    ours, theirs = network(), network()
    decayed = [p for p in theirs.parameters() if p.ndim > 1]
    exempt = [p for p in theirs.parameters() if p.ndim <= 1]
    groups = [{"params": exempt, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]
    train(ours, create_optimizer(ours, OptimConfig(lr=1e-2, betas=(0.9, 0.99), weight_decay=weight_decay)), 5)
    train(theirs, torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99)), 5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"optim\.name.*'adamww'.*'adamw'"):
        create_optimizer(network(), OptimConfig(name="adamww"))


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon", "lion"])
def test_saved_state_continues_bit_for_bit(name):
    config = OptimConfig(name=name, lr=1e-2, weight_decay=0.1)
    whole, first = network(), network()
    train(whole, create_optimizer(whole, config, matrices=[whole[0].weight]), 6)
    optimizer = create_optimizer(first, config, matrices=[first[0].weight])
    train(first, optimizer, 3)
    tensors, scalars = optimizer_state(optimizer, first)
    scalars = json.loads(json.dumps(scalars))

    second = network()
    second.load_state_dict(first.state_dict())
    resumed = create_optimizer(second, config, matrices=[second[0].weight])
    load_optimizer_state(resumed, second, {k: v.clone() for k, v in tensors.items()}, scalars, origin="file")
    train(second, resumed, 3, start=3)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_another_model_is_refused():
    model, config = network(), OptimConfig()
    optimizer = create_optimizer(model, config)
    train(model, optimizer, 1)
    tensors, scalars = optimizer_state(optimizer, model)
    for change, message in [
        (lambda t: t.update({"exp_avg.9.weight": torch.zeros(1)}), r"file: holds exp_avg\.9\.weight"),
        (lambda t: t.update({"exp_avg.0.weight": torch.zeros(5, 3)}), r"\(5, 3\), expected \(4, 3\)"),
        (lambda t: [t.pop(key) for key in list(t) if key.endswith("1.bias")], r"1\.bias"),
    ]:
        changed = dict(tensors)
        change(changed)
        with pytest.raises(DitError, match=message):
            load_optimizer_state(optimizer, model, changed, scalars, origin="file")


def test_a_resumed_optimizer_takes_its_options_from_the_recipe():
    """A weight decay from 0 on splits the group, and the state goes on."""
    first, second = network(), network()
    optimizer = create_optimizer(first, OptimConfig(lr=1e-2))
    train(first, optimizer, 3)
    tensors, scalars = optimizer_state(optimizer, first)
    second.load_state_dict(first.state_dict())
    changed = create_optimizer(second, OptimConfig(lr=1e-3, betas=(0.5, 0.6), eps=1e-4, weight_decay=0.1))
    load_optimizer_state(changed, second, tensors, json.loads(json.dumps(scalars)), origin="file")
    assert [group["weight_decay"] for group in changed.param_groups] == [0.0, 0.1]
    for group in changed.param_groups:
        assert (group["lr"], group["initial_lr"], group["betas"], group["eps"]) == (1e-3, 1e-3, (0.5, 0.6), 1e-4)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(optimizer.state[a]["exp_avg_sq"], changed.state[b]["exp_avg_sq"])
