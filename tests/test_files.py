import os
import signal
import stat
import subprocess
import sys

import pytest

from dit import files
from dit.errors import ConfigError, DitError, did_you_mean
from dit.failpoints import failpoint
from dit.files import begin_folder, new_folder, read_json, write_bytes, write_json


def test_write_replaces_whole_files_and_leaves_nothing_else(tmp_path):
    write_json(tmp_path / "a" / "x.json", {"b": [1, 2.5, "ä"]})
    write_json(tmp_path / "a" / "x.json", {"b": 2})
    assert read_json(tmp_path / "a" / "x.json") == {"b": 2}
    assert os.listdir(tmp_path / "a") == ["x.json"]


@pytest.mark.parametrize("action", ["raise", "enospc"])
def test_a_fault_while_writing_keeps_the_old_file(tmp_path, monkeypatch, capfd, action):
    write_bytes(tmp_path / "x", b"old")
    monkeypatch.setenv("DIT_FAILPOINT", f"write:x:{action}")
    with pytest.raises((RuntimeError, OSError)):
        write_bytes(tmp_path / "x", b"new")
    assert "failpoint fired" in capfd.readouterr().err
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_failpoints_inject_what_they_are_asked_for(monkeypatch, capfd):
    assert failpoint("here") is None
    monkeypatch.setenv("DIT_FAILPOINT", "here:inf,there:oom,everywhere:signal=USR1,wrong:explode")
    assert failpoint("elsewhere") is None
    assert failpoint("here") == float("inf")
    with pytest.raises(MemoryError):
        failpoint("there")
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    failpoint("everywhere")
    signal.signal(signal.SIGUSR1, before)
    assert received == [signal.SIGUSR1]
    with pytest.raises(ConfigError, match="'explode'"):
        failpoint("wrong")
    assert capfd.readouterr().err.count("failpoint fired") == 4


def test_kill_while_making_a_folder_leaves_no_target(tmp_path):
    code = (
        f"from dit.files import new_folder\nwith new_folder({str(tmp_path / 'out')!r}) as f: (f / 'x').write_text('1')"
    )
    environment = os.environ | {"DIT_FAILPOINT": "rename:out:kill"}
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == -9
    assert "failpoint fired" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_new_folder_is_all_or_nothing(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as folder:  # noqa: PT012
        (folder / "x").write_text("1")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with new_folder(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
        os.chmod(folder / "x", 0o600)
    assert os.listdir(tmp_path) == ["out"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "out" / "x").stat().st_mode) == 0o666 & ~umask
    with pytest.raises(ConfigError, match="new or empty"), new_folder(tmp_path / "out"):
        pass


def test_read_json_names_the_file(tmp_path):
    with pytest.raises(DitError, match=r"missing\.json"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DitError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "nan.json", float("nan"))


def test_did_you_mean_finds_near_names_of_any_case():
    assert did_you_mean("DIT_XL2", ["dit_xl_2", "dit_s_2"]).startswith(" Did you mean 'dit_xl_2'")
    assert did_you_mean("zebra", ["dit_xl_2"]) == ""


def test_a_folder_that_another_process_claims_meanwhile_is_gone_on_with(tmp_path, monkeypatch):
    settings = tmp_path / "folder" / "settings.json"
    write_json(settings.parent / "part.json", {})
    with pytest.raises(ConfigError, match="expected a new or empty folder, found files there"):
        begin_folder(settings, {"seed": 0})

    def is_temporary(path):  # between the look for settings and that for other files
        write_json(settings, {"seed": 0})
        return False

    monkeypatch.setattr(files, "_is_temporary", is_temporary)
    assert begin_folder(settings, {"seed": 1}) == {"seed": 0}
