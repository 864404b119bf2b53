"""Processes of one machine: numbered, stopped together, and their first error told once."""

import os
import signal
import time

import pytest

from dit import launcher
from dit.errors import ConfigError, DitError, Preempted
from dit.launcher import run_in_processes
from dit.signals import StopSignals


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.05)


def test_processes_are_numbered_as_a_launcher_numbers_them(tmp_path):
    def function():
        (tmp_path / f"{launcher.rank()}{launcher.local_rank()} of {launcher.num_processes()}").touch()

    run_in_processes(3, function)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00 of 3", "11 of 3", "22 of 3"]
    assert (launcher.rank(), launcher.num_processes()) == (0, 1)


def until_stopped():
    deadline = time.monotonic() + 20  # of a test that fails: nothing is left behind
    with StopSignals() as signals:
        while not signals.received and time.monotonic() < deadline:
            time.sleep(0.01)
    raise Preempted("stopped" if signals.received else "not stopped")


def test_an_error_of_one_stops_the_others_and_is_raised(tmp_path):
    def fail():
        raise ConfigError("a field: expected this, found that")

    def function():
        fail() if launcher.rank() == 1 else until_stopped()

    with pytest.raises(ConfigError, match="a field: expected this, found that"):
        run_in_processes(3, function)


def test_a_process_that_is_killed_is_named():
    def function():
        os.kill(os.getpid(), signal.SIGKILL) if launcher.rank() == 1 else until_stopped()

    with pytest.raises(DitError, match="process 1 of 2 failed with exit code -9"):
        run_in_processes(2, function)


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_signal_is_passed_on(tmp_path, is_ready):
    def function():
        if launcher.is_main():
            os.kill(os.getppid(), signal.SIGUSR1)
        until_stopped() if is_ready else time.sleep(60)

    with pytest.raises(Preempted, match=r"^stopped"):
        run_in_processes(2, function)


def test_processes_do_not_outlive_their_parent(tmp_path):
    def child():
        (tmp_path / str(os.getpid())).touch()
        while launcher.is_main() and len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getppid(), signal.SIGKILL) if launcher.is_main() else until_stopped()

    with pytest.raises(DitError, match="process 0 of 1 failed with exit code -9"):
        run_in_processes(1, lambda: run_in_processes(2, child))
    pids = [int(path.name) for path in tmp_path.iterdir()]
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_files_of_others_are_waited_for(tmp_path):
    def function():
        if launcher.is_main():
            launcher.wait_for_files([tmp_path / "one", tmp_path / "two"])
            (tmp_path / "seen").touch()
        else:
            for name in ("two", "one"):
                assert not (tmp_path / "seen").exists()
                (tmp_path / name).touch()

    run_in_processes(2, function)
    assert (tmp_path / "seen").exists()
