"""The run folder: lock, emptiness, leftovers, status."""

import subprocess
import sys

import pytest

from dit.errors import ConfigError
from dit.training.run.folder import RunFolder

HOLDER = """
import sys, time
from dit.training.run.folder import RunFolder
with RunFolder(sys.argv[1]).locked(resume=True):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_second_run_in_the_same_folder_is_refused(tmp_path):  # T18
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        folder = RunFolder(tmp_path)
        with pytest.raises(ConfigError, match=f"another run is writing here \\(process {holder.pid} on "):
            folder.locked(resume=True).__enter__()
    finally:
        holder.kill()
        holder.communicate()
    with folder.locked(resume=True):  # the lock went with the process
        pass


def test_folder_of_a_run_that_failed_at_once_is_still_new(tmp_path):
    for _ in range(2):
        with RunFolder(tmp_path / "new").locked(resume=False):
            entered = (tmp_path / "new").is_dir()
        assert entered


def test_leftovers_of_a_killed_process_are_removed(tmp_path):  # C1
    leftovers = [tmp_path / "checkpoints" / ".tmp-step-00000003.17", tmp_path / "snapshots" / ".tmp-step-00000003.17"]
    for folder in leftovers:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
    (tmp_path / ".tmp-status.json.17").touch()
    kept = tmp_path / "checkpoints" / "step-00000002"
    kept.mkdir()
    with RunFolder(tmp_path).locked(resume=True):
        assert sorted(path.name for path in tmp_path.rglob(".tmp*")) == []
        assert kept.is_dir()


def test_folder_that_can_not_be_written_is_refused_at_once(tmp_path):  # C11
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="expected a folder that can be written"):
        RunFolder(tmp_path / "file" / "run").locked(resume=False).__enter__()
    with pytest.raises(ConfigError, match="expected a folder that can be written"):
        RunFolder("/proc/dit-run").locked(resume=False).__enter__()
