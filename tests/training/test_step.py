"""One optimizer step: what is not finite updates nothing, at once or one step late; the fp16 scaler's rules."""

import json

import pytest
import torch

from dit.signals import StopSignals
from dit.training.batch import Share
from dit.training.objectives.objective import Objective
from dit.training.ranks.processes import start_processes
from dit.training.step import Stepper
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer
from tests.training.fakes import make_parts, make_recipe
from tests.training.test_batch import make_source

BAD = {"loss": "step-1-rank-0-micro-1:nan", "gradient": "gradient-1-rank-0:inf"}


def make_stepper(*, num_late=0, scaler=None, **changes):
    recipe = make_recipe()
    model, process, *_ = make_parts(recipe)
    processes = start_processes(recipe.train)
    processes.accelerator.scaler = scaler
    stepper = Stepper(
        objective=Objective(process, model, model, {}),
        source=make_source(share=Share(8, num_micros=2)),
        optimizer=create_optimizer(model, recipe.optim),
        processes=processes,
        signals=StopSignals(),
        num_buckets=4,
        num_late=num_late,
        **changes,
    )
    return model, stepper


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def arrived(stepper, **options):
    return [metrics for metrics, _ in stepper.arrived(**options)]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_step_updates_nothing(kind, monkeypatch):  # T7, T8
    monkeypatch.setenv("DIT_FAILPOINT", BAD[kind])
    model, stepper = make_stepper()
    assert stepper.attempt(0)
    before = copy_of(model)
    assert not stepper.attempt(1)
    assert [metrics.is_bad for metrics in arrived(stepper)] == [False, True]
    assert same(copy_of(model), before)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_step_that_is_known_late_holds_all_further_updates_back(kind, monkeypatch):
    monkeypatch.setenv("DIT_FAILPOINT", BAD[kind])
    model, stepper = make_stepper(num_late=1)
    stepper.attempt(0)
    assert arrived(stepper) == []
    before = copy_of(model)
    stepper.attempt(1)
    assert [(metrics.step, metrics.is_bad) for metrics in arrived(stepper)] == [(0, False)]
    stepper.attempt(2)
    assert [(metrics.step, metrics.is_bad) for metrics in arrived(stepper)] == [(1, True)]
    assert same(copy_of(model), before)


def test_late_and_prompt_measures_give_the_same_weights():
    (prompt, one), (late, other) = make_stepper(), make_stepper(num_late=1)
    for step in range(3):
        one.attempt(step)
        other.attempt(step)
    assert same(copy_of(prompt), copy_of(late))
    found = [metrics.totals.pack().tolist() for metrics in arrived(other, all_of_them=True)]
    assert found == [metrics.totals.pack().tolist() for metrics in arrived(one)]


def test_gradients_are_clipped_to_the_norm():
    model, stepper = make_stepper(max_grad_norm=1e-3)
    norms = []
    step = stepper.optimizer.step

    def note_and_step():
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        step()

    stepper.optimizer.step = note_and_step
    stepper.attempt(0)
    assert norms == [pytest.approx(1e-3, rel=1e-3)]
    assert arrived(stepper)[0].grad_norm > 1e-2


def test_scaler_skips_an_overflow_and_the_counters_stay_consistent(monkeypatch):  # T9
    monkeypatch.setenv("DIT_FAILPOINT", BAD["gradient"])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=100)
    model, stepper = make_stepper(scaler=scaler)
    ema = Ema(model, make_recipe().ema)
    assert stepper.attempt(0)
    ema.update(1)
    before, average = copy_of(model), copy_of(ema.network)
    assert not stepper.attempt(1)  # the caller then leaves the average alone
    assert same(copy_of(model), before)
    assert same(copy_of(ema.network), average)
    assert scaler.get_scale() == 2.0**9
    assert stepper.skipped == 1
    assert [metrics.is_bad for metrics in arrived(stepper)] == [False, False]
    state = json.loads(json.dumps(scaler.state_dict()))
    again = torch.amp.GradScaler("cpu")
    again.load_state_dict(state)
    assert again.get_scale() == 2.0**9
    assert stepper.attempt(2)
    assert stepper.skipped == 1
    assert not same(copy_of(model), before)


def test_scaler_does_not_excuse_a_loss_that_is_not_finite(monkeypatch):
    monkeypatch.setenv("DIT_FAILPOINT", BAD["loss"])
    model, stepper = make_stepper(scaler=torch.amp.GradScaler("cpu"))
    stepper.attempt(0)
    before = copy_of(model)
    assert not stepper.attempt(1)
    assert [metrics.is_bad for metrics in arrived(stepper)] == [False, True]
    assert same(copy_of(model), before)


def test_scaled_steps_equal_plain_ones():
    (plain, one), (scaled, other) = make_stepper(), make_stepper(scaler=torch.amp.GradScaler("cpu"))
    for step in range(3):
        one.attempt(step)
        other.attempt(step)
    for name, value in scaled.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-4, atol=1e-5)
