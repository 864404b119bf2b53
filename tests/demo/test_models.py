"""Which models a page has."""

import shutil

import pytest

from dit.demo.models import NUM_KEPT, Models
from dit.errors import ConfigError, DitError
from dit.files import ASSETS
from dit.making import Making
from tests.demo.conftest import MODEL


def test_named_ones_come_first_and_embedded_ones_are_there(models):
    embedded = [MODEL, f"{MODEL}_gaussian", "meanflow_ti_2.mnist"]
    assert models.names == ["broken_digits", *embedded]
    assert Models([MODEL, MODEL]).names == embedded
    assert models.config(MODEL).class_names == list("0123456789")


def test_folders_of_one_name_are_told_apart(tmp_path):
    for parent in ("a", "b"):
        shutil.copytree(ASSETS / MODEL, tmp_path / parent / "digits")
    two = Models([str(tmp_path / "a" / "digits"), str(tmp_path / "b" / "digits")])
    assert two.names[:2] == ["digits", "digits (2)"]
    assert two.source("digits (2)") == str(tmp_path / "b" / "digits")


def test_nothing_else_can_be_loaded(models, broken):
    for name in (str(broken), "../broken_digits", "org/name", "/etc/passwd", f"{ASSETS}/{MODEL}", ""):
        with pytest.raises(ConfigError, match="Model: expected one of broken_digits, "):
            models.load(name, Making())
    with pytest.raises(ConfigError, match="found nothing"):
        Models(["nothing"])


def test_a_broken_one_fails_when_it_is_loaded_and_others_load(models):
    with pytest.raises(DitError, match=r"model\.safetensors"):
        models.load("broken_digits", Making())
    assert models.load(MODEL, Making()) is models.load(MODEL, Making())


def test_few_stay_loaded(models, monkeypatch):
    loaded = []
    monkeypatch.setattr(Making, "load", lambda self, source, device: loaded.append(source) or object())
    models = Models([])
    order = [MODEL, f"{MODEL}_gaussian"]
    for name in order * 2:
        models.load(name, Making())
    assert loaded == order
    models.load(MODEL, Making(published=True))  # pushes out the one that was used longest ago
    assert len(models._loaded) == NUM_KEPT
    models.load(f"{MODEL}_gaussian", Making())
    assert loaded == [*order, MODEL]
