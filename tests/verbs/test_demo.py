"""`dit demo` before it serves."""

import importlib.util

from tests.command import fails


def test_without_gradio_one_line_says_what_to_install(capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find_spec(name))
    assert fails(capsys, "demo") == "dit demo: expected gradio, found none; pip install 'dit-zoo[demo]'"


def test_a_wrong_source_is_told_before_it_serves(capsys):
    assert "found nothing. Did you mean 'dit_ti_2.mnist'" in fails(capsys, "demo", "dit_ti_2.mnis")
