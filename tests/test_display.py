"""The display without a terminal, and with one."""

import io

import pytest

from dit import display
from dit.display import Progress, in_bytes, say, time_left, warn


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(display.time, "perf_counter", lambda: now[0])
    return now


def test_plain_lines_now_and_then_and_at_the_end_without_a_terminal(capsys, clock):
    with Progress(100, "encode", start=20) as progress:
        for second in range(1, 9):
            clock[0] = second
            progress.advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "encode: 80/100 images, 10 images/s, 0:02 left",
        "encode: 100/100 images, 10 images/s, 0:00 left",
    ]


def test_figures_are_shown_at_once_and_stay(capsys, clock):
    with Progress(3, "train", unit="steps") as progress:
        clock[0] = 1.0
        progress.advance()
        progress.show("loss 0.5")
        progress.advance()
        clock[0] = 30.0
        progress.advance()
        progress.show("loss 0.4")
    assert capsys.readouterr().err.splitlines() == [
        "train: 1/3 steps, loss 0.5, 0:02 left",
        "train: 3/3 steps, loss 0.4, 0:00 left",
    ]


def test_bytes_are_shown_and_the_work_of_others_counts(capsys, clock):
    with Progress(100, "encode", start=10, unit_bytes=65536) as progress:
        clock[0] = 6.0
        progress.advance(20)
        progress.reach(70)
    assert capsys.readouterr().err.splitlines() == [
        "encode: 30/100 images (2.0 MB), 3.33 images/s, 0:21 left",
        "encode: 70/100 images (4.6 MB), 10 images/s, 0:03 left",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (83_886_080_000, "83.9 GB"), (2e15, "2,000.0 TB")],
)
def test_bytes_in_words(number, text):
    assert in_bytes(number) == text


def test_short_work_shows_nothing(capsys, clock):
    with Progress(2, "sample") as progress:
        progress.advance(2)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_and_messages_above_it(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with Progress(1200, "train", unit="steps", start=50) as progress:
        progress.advance(1.0)
        progress.show("loss 0.25")
        warn("the disk is nearly full")
    say("done")
    text = terminal.getvalue()
    assert "51/1,200 [" in text
    assert "loss 0.25" in text
    assert "\rdit: warning: the disk is nearly full\n" in text
    assert text.endswith("\ndit: done\n")


def test_silent_where_not_enabled(monkeypatch, capsys, clock):
    for terminal in (None, Terminal()):
        if terminal:
            monkeypatch.setattr("sys.stderr", terminal)
        with Progress(10, "train", enabled=False) as progress:
            clock[0] += 60
            progress.advance()
            progress.show("loss 0.5")
        assert (terminal.getvalue() if terminal else capsys.readouterr().err) == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3600, "1:00:00"), (90_061, "25:01:01")])
def test_time_left(seconds, text):
    assert time_left(seconds) == text
