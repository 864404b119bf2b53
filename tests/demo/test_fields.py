"""Classes by name."""

import pytest

pytest.importorskip("gradio")

from dit.demo.fields import class_choices, same_classes
from dit.demo.form import Settings
from tests.demo.conftest import MODEL


def test_names_that_several_classes_have_are_told_apart(models):
    config = models.config(MODEL)
    assert class_choices(config) == [(name, name) for name in "0123456789"]
    cranes = config.model_copy(update={"id2label": {"3": "crane", "5": "crane", "7": "tench, Tinca tinca"}})
    choices = class_choices(cranes)
    assert [choices[i] for i in (3, 5, 7)] == [("crane (3)", "3"), ("crane (5)", "5"), ("tench, Tinca tinca", "7")]


def test_chosen_classes_are_kept_where_another_model_has_them(models):
    digits = models.config(MODEL)
    birds = digits.model_copy(update={"id2label": {"3": "crane", "5": "heron", "6": "7"}})
    assert same_classes(["7", "3", "5", "typed"], digits, digits) == ["7", "3", "5"]
    assert same_classes(["7", "3", "2"], digits, birds) == ["2"]  # 7 is the name of two there
    assert same_classes(["5", "6"], birds, birds.model_copy(update={"id2label": {"1": "heron"}})) == ["1"]


def test_settings_begin_as_the_model_has_them(models):
    settings = Settings.of(MODEL, models.config(MODEL), published=True)  # it has none that are published
    own = models.config(MODEL).sampling
    assert (settings.published, settings.steps, settings.solver) == (False, own.steps, own.solver.name)
