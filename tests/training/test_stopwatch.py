"""Every second is counted once, as one kind."""

from dit.training.stopwatch import Stopwatch


def test_waits_for_data_are_part_of_steps_and_pauses_are_not(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dit.training.stopwatch.time.perf_counter", lambda: now[0])
    stopwatch = Stopwatch(_started=0.0)
    for kind, seconds in (("data", 1.0), ("preview", 10.0), ("data", 2.0)):
        now[0] += 100.0
        with stopwatch.pause(kind):
            now[0] += seconds
    assert stopwatch.seconds == {"train": 300.0, "data": 3.0, "preview": 10.0}
    assert stopwatch.of_steps == 303.0
