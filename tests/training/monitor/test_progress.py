"""The progress display without a terminal, and with one."""

import io

import pytest

from dit.training.monitor import progress
from dit.training.monitor.progress import Progress, time_left

ROW = {"loss": 0.51234, "images_per_second": 512.3}


def test_plain_lines_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 1000.0)
    shown = Progress(100)
    for step in (10, 20, 100):
        shown.show({"step": step} | ROW)
    shown.close()
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("step 10/100, loss 0.5123, 512 images/s, ")
    assert last.startswith("step 100/100")
    assert last.endswith("0:00 left")
    assert "\r" not in first + last


def test_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    shown = Progress(100, start=50)
    shown.advance()
    shown.show({"step": 51, "val_loss": 0.25} | ROW)
    shown.close()
    assert "51/100" in terminal.getvalue()
    assert "validation loss 0.2500" in terminal.getvalue()
    assert "\r" in terminal.getvalue()


def test_silent_where_not_enabled(capsys):
    shown = Progress(10, enabled=False)
    shown.advance()
    shown.show({"step": 1} | ROW)
    shown.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3600, "1:00:00"), (90_061, "25:01:01")])
def test_time_left(seconds, text):
    assert time_left(seconds) == text
