"""Classes by name."""

import pytest

pytest.importorskip("gradio")

from dit.demo.fields import class_choices
from dit.demo.form import Settings
from tests.demo.conftest import MODEL


def test_names_that_several_classes_have_are_told_apart(models):
    config = models.config(MODEL)
    assert class_choices(config) == [(name, name) for name in "0123456789"]
    cranes = config.model_copy(update={"id2label": {"3": "crane", "5": "crane", "7": "tench, Tinca tinca"}})
    choices = class_choices(cranes)
    assert [choices[i] for i in (3, 5, 7)] == [("crane (3)", "3"), ("crane (5)", "5"), ("tench, Tinca tinca", "7")]


def test_settings_begin_as_the_model_has_them(models):
    settings = Settings.of(MODEL, models.config(MODEL), published=True)  # it has none that are published
    own = models.config(MODEL).sampling
    assert (settings.published, settings.steps, settings.solver) == (False, own.steps, own.solver.name)
