"""Post-hoc averages: widths, coefficients, and the reconstruction against an average that was tracked."""

import numpy as np
import pytest
import torch
from torch import nn

from dit.errors import ConfigError
from dit.training.config import EmaConfig
from dit.training.weights.ema import Ema
from dit.training.weights.posthoc import (
    combine,
    profile_error,
    reconstruct,
    sigma_rel_to_gamma,
    solve_coefficients,
)
from tests.training.test_loop import train, weights


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_exponents_of_the_paper(sigma_rel, gamma):
    assert sigma_rel_to_gamma(sigma_rel) == pytest.approx(gamma, abs=5e-3)


def test_width_is_the_standard_deviation_of_the_profile():
    gamma = sigma_rel_to_gamma(0.15)
    k = (np.arange(200_000) + 0.5) / 200_000
    profile = (gamma + 1) * k**gamma
    mean = (profile * k).mean()
    assert np.sqrt((profile * (k - mean) ** 2).mean()) == pytest.approx(0.15, rel=1e-6)


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.3, float("nan")])
def test_impossible_widths_are_refused(sigma_rel):
    with pytest.raises(ConfigError, match=r"sigma_rel.*0\.2887"):
        sigma_rel_to_gamma(sigma_rel)


@pytest.mark.parametrize("sigma_rel", [0.03, 0.07, 0.15, 0.2])
def test_reconstruction_equals_the_tracked_average(sigma_rel):
    """A random walk of weights stands for training; the wanted width is tracked beside the snapshots."""
    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False)
    ema = Ema(model, EmaConfig(sigma_rels=(0.05, 0.1, sigma_rel)))
    snapshots, steps, gammas = [], [], []
    for step in range(1, 1001):
        with torch.no_grad():
            model.weight.add_(torch.randn(64, 64) / 30)
        ema.update(step)
        if step % 50 == 0:
            for width in (0.05, 0.1):
                snapshots.append({"weight": ema.tensors(f"power-{width}")["weight"].clone()})
                steps.append(step)
                gammas.append(sigma_rel_to_gamma(width))
    coefficients = solve_coefficients(steps, gammas, step=1000, gamma=sigma_rel_to_gamma(sigma_rel))
    assert coefficients.sum() == pytest.approx(1, abs=1e-9)
    found = combine(snapshots, coefficients)["weight"]
    tracked = ema.tensors(f"power-{sigma_rel}")["weight"]
    nearest = min((s["weight"] - tracked).norm() for s in snapshots)
    error = (found - tracked).norm()
    assert error < 0.01 * tracked.norm()
    assert error < 0.1 * nearest  # it is no mere copy of a snapshot


SNAPSHOTS = {
    "ema.sigma_rels": [0.05, 0.1],
    "ema.snapshot_every": 5,
    "ema.snapshot_precision": "fp32",
    "train.max_steps": 60,
    "train.checkpoint_every": 60,
}


def test_a_runs_snapshots_give_the_average_that_another_run_tracked(tmp_path):
    train(tmp_path / "run", **SNAPSHOTS)
    train(tmp_path / "tracked", **{**SNAPSHOTS, "ema.sigma_rels": [0.15]})
    found = reconstruct(tmp_path / "run" / "snapshots", 0.15)
    assert (found.step, found.num_snapshots) == (60, 24)
    assert found.profile_error < 0.02
    tracked, final = weights(tmp_path / "tracked", "power-0.15"), weights(tmp_path / "run")
    for name, value in tracked.items():
        if torch.equal(value, final[name]):  # not trained
            continue
        assert (found.tensors[name] - value).norm() < 0.05 * (final[name] - value).norm(), name


def test_an_average_can_end_earlier(tmp_path):
    train(tmp_path / "run", **{**SNAPSHOTS, "train.max_steps": 20})
    found = reconstruct(tmp_path / "run" / "snapshots", 0.1, step=10)
    assert (found.step, found.num_snapshots) == (10, 4)
    with pytest.raises(ConfigError, match=r"snapshot of step 7, found \[5, 10, 15, 20\]"):
        reconstruct(tmp_path / "run" / "snapshots", 0.1, step=7)


def test_a_run_without_snapshots_is_told_how_to_get_them(tmp_path):
    with pytest.raises(ConfigError, match=r"expected snapshots, found none; train with ema\.sigma_rels"):
        reconstruct(tmp_path / "snapshots", 0.1)


def test_profile_error_tells_what_the_snapshots_can_not_reach():
    steps, gammas = [500, 1000], [16.97, 16.97]
    for gamma, low, high in ((16.97, 0, 1e-6), (12.0, 0.01, 0.5), (500.0, 0.5, 1.0)):
        coefficients = solve_coefficients(steps, gammas, step=1000, gamma=gamma)
        assert low <= profile_error(steps, gammas, coefficients, step=1000, gamma=gamma) <= high
