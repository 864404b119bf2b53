"""Pickles, which conversions and the statistics of other's latents open: row C8 of the fault matrix."""

import argparse
import pickle

import pytest
import torch

from dit.errors import DitError
from dit.pickle_file import load_pickle
from tests.zoo.conftest import CreatesFile


@pytest.mark.parametrize("is_zip", [True, False])
def test_training_checkpoints_with_a_namespace_are_read(tmp_path, is_zip):
    content = {"ema": {"a": torch.arange(3.0)}, "args": argparse.Namespace(model="DiT-XL/2", lr=1e-4, resume=None)}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=is_zip)
    loaded = load_pickle(tmp_path / "x.pt")
    assert torch.equal(loaded["ema"]["a"], torch.arange(3.0))
    assert vars(loaded["args"]) == {"model": "DiT-XL/2", "lr": 1e-4, "resume": None}


def test_a_namespace_is_allowed_here_and_nowhere_else(tmp_path):
    torch.save({"args": argparse.Namespace()}, tmp_path / "x.pt")
    load_pickle(tmp_path / "x.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "x.pt", weights_only=True)


@pytest.mark.parametrize("writer", ["zip", "legacy", "pickle", "in the namespace"])
def test_c8_a_pickle_that_would_create_a_file_is_refused_and_does_not(tmp_path, writer):
    path, sentinel = tmp_path / "x.pt", tmp_path / "sentinel"
    evil = {"model": {"a": torch.zeros(1)}, "x": CreatesFile(sentinel)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(CreatesFile(sentinel)))
    elif writer == "in the namespace":
        torch.save({"args": argparse.Namespace(x=CreatesFile(sentinel))}, path)
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=writer == "zip")
    holds = f"holds {open.__module__}.open, which could run code"  # io in Python 3.11, _io in 3.13
    reason = "damaged or was not written by torch.save" if writer == "pickle" else holds
    with pytest.raises(DitError, match=f"x.pt: it was not loaded, for it (is )?{reason}"):
        load_pickle(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"\x80\x02junk", b"text"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(DitError, match="it was not loaded, for it is damaged or was not written by torch"):
        load_pickle(tmp_path / "x.pt")
