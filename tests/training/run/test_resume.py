"""Which recipes continue a run (T15)."""

import pytest

from dit.errors import ConfigError
from dit.training.run.resume import MAY_CHANGE, check_same_run, flat_fields
from tests.training.fakes import make_recipe


def test_the_same_recipe_continues():
    check_same_run(flat_fields(make_recipe()), flat_fields(make_recipe()), origin="run")


@pytest.mark.parametrize(
    ("field", "value", "values"),
    [
        ("train.batch_size", 16, "the run has 8, found 16"),
        ("train.seed", 1, "the run has 0, found 1"),
        ("optim.lr", 0.5, "the run has 0.01, found 0.5"),
        ("ema.decay", 0.5, "the run has 0.9, found 0.5"),
        ("data.source", "folder", "the run has 'mnist', found 'folder'"),
        ("model.depth", 3, "the run has 2, found 3"),
        ("process.name", "gaussian", "the run has 'flow', found 'gaussian'"),
        ("data.flip", True, "the run has False, found True"),
    ],
)
def test_a_changed_field_is_refused_with_both_values(field, value, values):
    changed = flat_fields(make_recipe(**{field: value}))
    with pytest.raises(ConfigError) as refused:
        check_same_run(flat_fields(make_recipe()), changed, origin="run")
    assert f"{field}: {values}" in str(refused.value)


def test_every_changed_field_is_listed():
    changed = flat_fields(make_recipe(**{"optim.lr": 0.5, "train.seed": 3, "train.max_steps": 9}))
    with pytest.raises(ConfigError, match=r"optim\.lr.*train\.seed") as refused:
        check_same_run(flat_fields(make_recipe()), changed, origin="run")
    assert "max_steps" not in str(refused.value)


@pytest.mark.parametrize("field", sorted(MAY_CHANGE))
def test_what_may_change_is_a_field_of_the_recipe(field):
    assert field in flat_fields(make_recipe())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.max_steps", 99),
        ("train.log_every", 5),
        ("train.checkpoint_every", 5),
        ("train.gradient_accumulation", 2),
        ("sampling.steps", 9),
        ("evaluation.num", 9),
    ],
)
def test_cadence_length_and_use_may_change(field, value):
    check_same_run(flat_fields(make_recipe()), flat_fields(make_recipe(**{field: value})), origin="run")
