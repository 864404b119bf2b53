"""The learning rate has its closed form at every step, in any order."""

import math

import pytest

from dit.training.config import OptimConfig
from dit.training.weights.optim import create_optimizer
from dit.training.weights.schedule import learning_rates, set_learning_rates, share_of_peak
from tests.training.weights.test_optim import network


def expected_share(schedule, step, *, warmup=4, max_steps=14, decay=6, final=0.25):
    number = step + 1
    if number < warmup:
        return number / warmup
    way = (number - warmup) / (max_steps - warmup)
    late = max(0, number - (max_steps - decay)) / decay
    return {
        "constant": 1.0,
        "linear": final + (1 - final) * (1 - way),
        "cosine": final + (1 - final) * (1 + math.cos(math.pi * way)) / 2,
        "wsd": final + (1 - final) * (1 - late**0.5),
    }[schedule]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "wsd"])
@pytest.mark.parametrize("step", range(14))
def test_share_has_its_closed_form(schedule, step):
    config = OptimConfig(warmup_steps=4, schedule=schedule, final_lr_ratio=0.25, decay_steps=6)
    assert share_of_peak(config, step, max_steps=14) == pytest.approx(expected_share(schedule, step), rel=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_the_last_step_has_the_last_rate(schedule):
    config = OptimConfig(schedule=schedule, final_lr_ratio=0.1, decay_steps=5)
    assert share_of_peak(config, 9, max_steps=10) == pytest.approx(0.1)


def test_a_decay_longer_than_the_run_begins_after_the_warm_up():
    config = OptimConfig(warmup_steps=2, schedule="wsd", decay_steps=100)
    assert [round(share_of_peak(config, step, max_steps=6), 3) for step in range(6)] == [0.5, 1.0, 0.5, 0.293, 0.134, 0]


def test_every_group_follows_from_its_own_peak():
    model, config = network(), OptimConfig(name="muon", lr=1e-4, muon_lr=1e-2)
    optimizer = create_optimizer(model, config, matrices=[model[0].weight])
    set_learning_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [5e-3, 5e-5, 5e-5]
    assert learning_rates(config, 0.5) == {"lr": 5e-5, "muon_lr": 5e-3}
    assert learning_rates(OptimConfig(lr=1e-4), 0.5) == {"lr": 5e-5}
