"""Checkpoints: whole or not at all, verified, and a good older one never given up for a bad newer one (C1 to C10)."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dit import checkpoint
from dit.errors import DitError

STATE = {"step": 1, "loss": 0.1 + 0.2}


def tensors(value: float = 1.0):
    return {"model": {"weight": torch.full((3, 2), value)}, "ema": {"weight": torch.full((3, 2), value / 3)}}


def folders(root):
    return sorted(path.name for path in root.iterdir())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip_is_exact(tmp_path):
    checkpoint.save(tmp_path, 7, tensors(0.1), STATE)
    loaded = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert (loaded.step, loaded.state, loaded.passed_over) == (7, STATE, ())
    assert torch.equal(loaded.tensors("model")["weight"], torch.full((3, 2), 0.1))
    assert loaded.holds("ema")
    assert not loaded.holds("optimizer")
    with pytest.raises(DitError, match=r"optimizer\.safetensors"):
        loaded.tensors("optimizer")


def test_nothing_there_is_none(tmp_path):
    assert checkpoint.load_newest(tmp_path / "absent") is None
    assert checkpoint.load_newest(tmp_path) is None


def damage(path, name="model.safetensors", change=lambda data: data[:-1] + bytes([data[-1] ^ 1])):
    """Change the bytes of a checkpoint's file, or delete it; one bit by default."""
    if change:
        (path / name).write_bytes(change((path / name).read_bytes()))
    else:
        (path / name).unlink()


DAMAGES = [
    (["model.safetensors", lambda data: data[:-1]], "bytes"),  # C3
    ([], "SHA-256"),  # C4
    (["state.json", None], r"state\.json"),  # C6
    (["manifest.json", None], r"manifest\.json"),
    (["manifest.json", lambda data: data.replace(b'"step": 2', b'"step": 3')], "step"),
    (["manifest.json", lambda data: data.replace(b"model.safetensors", b"../escape")], "escape"),
]


@pytest.mark.parametrize(("how", "words"), DAMAGES)
def test_damaged_newest_falls_back_and_says_why(tmp_path, how, words):
    older = checkpoint.save(tmp_path, 1, tensors(), STATE)
    before = contents(older)
    damage(checkpoint.save(tmp_path, 2, tensors(), STATE), *how)
    loaded = checkpoint.load_newest(tmp_path)
    assert loaded.step == 1
    (reason,) = loaded.passed_over
    assert re.search(words, reason)
    assert "step-00000002" in reason
    assert contents(older) == before


def test_all_damaged_is_refused(tmp_path):  # C5
    for step in (1, 2):
        damage(checkpoint.save(tmp_path, step, tensors(), STATE))
    with pytest.raises(DitError, match=r"step-00000002.*step-00000001"):
        checkpoint.load_newest(tmp_path)


def test_stray_names_and_links_are_ignored(tmp_path):  # C10
    root, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere"
    for step in (1, 2, 3):
        checkpoint.save(root, step, tensors(), STATE)
    kept = checkpoint.save(elsewhere, 9, tensors(), STATE)
    (root / "step-foo").mkdir()
    (root / "step-00000009").symlink_to(kept)
    assert checkpoint.load_newest(root).step == 3
    checkpoint.prune(root, 2)
    assert folders(root) == ["step-00000002", "step-00000003", "step-00000009", "step-foo"]
    checkpoint.prune(root, 1)
    assert (root / "step-00000009").is_symlink()
    assert contents(kept)


def test_prune_keeps_the_newest(tmp_path):
    for step in (5, 10, 100, 99_999_999, 100_000_000):
        checkpoint.save(tmp_path, step, tensors(), STATE)
    checkpoint.prune(tmp_path, 2)
    assert folders(tmp_path) == ["step-100000000", "step-99999999"]


def test_prune_never_deletes_what_was_written_to_be_kept(tmp_path):
    for step in range(1, 7):
        checkpoint.save(tmp_path, step, tensors(), STATE, is_kept=step % 2 == 0)
        checkpoint.prune(tmp_path, 1)
    assert folders(tmp_path) == ["step-00000002", "step-00000004", "step-00000006"]
    damage(tmp_path / "step-00000002", "manifest.json", lambda data: data[:-1])
    checkpoint.prune(tmp_path, 1)
    assert folders(tmp_path) == ["step-00000004", "step-00000006"]


def test_one_is_loaded_by_its_folder(tmp_path):
    path = checkpoint.save(tmp_path, 7, tensors(0.1), STATE)
    assert checkpoint.load(path) == checkpoint.load_newest(tmp_path)
    damage(path)
    with pytest.raises(DitError, match="SHA-256"):
        checkpoint.load(path)


def test_keep_only_leaves_one(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, tensors(), STATE, is_kept=True)
    checkpoint.keep_only(tmp_path, 2)
    assert folders(tmp_path) == ["step-00000002"]


def test_a_whole_checkpoint_of_the_same_step_is_kept(tmp_path):
    path = checkpoint.save(tmp_path, 1, tensors(1.0), STATE)
    before = contents(path)
    checkpoint.save(tmp_path, 1, tensors(2.0), STATE)
    assert contents(path) == before


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path):
    damage(checkpoint.save(tmp_path, 1, tensors(1.0), STATE))
    checkpoint.save(tmp_path, 1, tensors(2.0), STATE)
    assert checkpoint.load_newest(tmp_path).tensors("model")["weight"][0, 0] == 2.0


SITES = [
    "checkpoint-2:model",
    "checkpoint-2:ema",
    "checkpoint-2:state",
    "checkpoint-2:manifest",
    "rename:step-00000002",
]
WRITER = """
import os, sys, torch
from dit import checkpoint
for site in sys.argv[2:]:
    if (child := os.fork()) == 0:
        os.environ["DIT_FAILPOINT"] = f"{site}:kill"
        checkpoint.save(f"{sys.argv[1]}/{site}", 2, {"model": {"w": torch.zeros(2)}, "ema": {"w": torch.zeros(2)}}, {})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_kill_while_writing_leaves_the_older_one(tmp_path):  # C1
    before = {site: contents(checkpoint.save(tmp_path / site, 1, tensors(), STATE)) for site in SITES}
    done = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), *SITES], capture_output=True, text=True)
    assert done.stdout.split() == ["-9"] * len(SITES)
    for site in SITES:
        assert checkpoint.load_newest(tmp_path / site).step == 1
        assert contents(tmp_path / site / "step-00000001") == before[site]
        checkpoint.clean(tmp_path / site)
        assert folders(tmp_path / site) == ["step-00000001"]


def test_a_power_cut_finds_it_whole_or_not_at_all(tmp_path, monkeypatch):
    """All that a checkpoint is made of is on the disk before it gets its name, and the name is before others go."""
    flush, rename, done = os.fsync, os.replace, []

    def noted_flush(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append("root" if path == tmp_path else "folder" if path.is_dir() else path.name)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", noted_flush)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("named"), rename(*paths)))
    path = checkpoint.save(tmp_path, 2, tensors(), STATE)
    assert set(done[:-2]) == {*contents(path), "folder"}
    assert done[-3:] == ["folder", "named", "root"]


@pytest.mark.parametrize("site", SITES)
def test_full_disk_leaves_the_older_one_and_no_rest(tmp_path, monkeypatch, capfd, site):  # C2
    checkpoint.save(tmp_path, 1, tensors(), STATE)
    monkeypatch.setenv("DIT_FAILPOINT", f"{site}:enospc")
    with pytest.raises(DitError, match=r"step-00000002.*No space left"):
        checkpoint.save(tmp_path, 2, tensors(), STATE)
    assert "failpoint fired" in capfd.readouterr().err
    assert folders(tmp_path) == ["step-00000001"]
    assert checkpoint.load_newest(tmp_path).step == 1


def test_pickle_in_place_of_tensors_is_refused(tmp_path):  # C8
    sentinel = tmp_path / "sentinel"

    class Malicious:
        def __reduce__(self):
            return (open, (str(sentinel), "w"))

    path = checkpoint.save(tmp_path / "root", 1, tensors(), STATE)
    loaded = checkpoint.load_newest(tmp_path / "root")
    torch.save(Malicious(), path / "model.safetensors")
    with pytest.raises(DitError, match=r"model\.safetensors"):
        loaded.tensors("model")
    assert not sentinel.exists()


HEADERS = {
    "header of 2^63": (2**63).to_bytes(8, "little") + b"{}",
    "overlap": {"a": [0, 8], "b": [4, 12]},
    "trailing bytes": {"a": [0, 8]},
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers_are_refused_at_once(tmp_path, case):  # C9
    content = HEADERS[case]
    if isinstance(content, dict):
        entries = {name: {"dtype": "F32", "shape": [2], "data_offsets": span} for name, span in content.items()}
        header = json.dumps(entries).encode()
        content = len(header).to_bytes(8, "little") + header + bytes(12)
    path = checkpoint.save(tmp_path, 1, tensors(), STATE)
    loaded = checkpoint.load_newest(tmp_path)
    (path / "model.safetensors").write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(DitError, match=r"model\.safetensors"):
        loaded.tensors("model")
    assert time.perf_counter() - start < 1
