"""Which recipes continue a run (T15)."""

import pytest

from dit.errors import ConfigError
from dit.training.run.resume import (
    CAN_CHANGE,
    LAW_OF_DRAWS,
    MAY_CHANGE,
    check_changes,
    check_same_run,
    flat_fields,
)
from tests.training.fakes import make_recipe


def test_every_changed_field_is_listed():
    changed = flat_fields(make_recipe(**{"optim.lr": 0.5, "train.seed": 3, "train.max_steps": 9}))
    with pytest.raises(ConfigError, match=r"optim\.lr.*train\.seed") as refused:
        check_same_run(flat_fields(make_recipe()), changed, origin="run")
    assert "max_steps" not in str(refused.value)


@pytest.mark.parametrize("field", sorted(MAY_CHANGE | CAN_CHANGE))
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


def test_a_run_that_began_before_there_was_a_field_is_continued_with_its_default():
    earlier = {key: value for key, value in flat_fields(make_recipe()).items() if key != "optim.muon_lr"}
    check_same_run(earlier, flat_fields(make_recipe()), origin="run")
    with pytest.raises(ConfigError, match=r"optim\.muon_lr: the run has 0\.001, found 0\.5"):
        check_same_run(earlier, flat_fields(make_recipe(**{"optim.muon_lr": 0.5})), origin="run")


def test_fields_that_cannot_change_are_refused_by_name():
    check_changes(["optim.lr", "train.max_steps", "sampling.steps"])
    for field in ("train.seed", "train.batch_size", "model.name", "data.source", "optim.name", "optim.trainable"):
        with pytest.raises(ConfigError, match=rf"--change {field}: this field can't change within a run"):
            check_changes(["optim.lr", field])
    with pytest.raises(ConfigError, match=r"--change optim\.lrr: .*Did you mean 'optim\.lr'"):
        check_changes(["optim.lrr"])


def test_a_run_whose_noise_was_drawn_by_another_law_is_refused():
    facts = flat_fields(make_recipe())
    with pytest.raises(ConfigError, match=r"run: expected .* blocks of 32 rows, found one of an earlier version"):
        check_same_run(facts, facts | {LAW_OF_DRAWS: "blocks of 32 rows"}, origin="run")
