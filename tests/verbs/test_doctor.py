"""`dit doctor`: a page that can be pasted."""

import re
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from dit.bench.settings import describe_machine
from dit.cli import main


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home folder with caches of a million and no bytes, and a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DIT_CACHE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    cache = tmp_path / ".cache/dit/latents"
    cache.mkdir(parents=True)
    (cache / "part").write_bytes(bytes(100_000_000))
    return tmp_path


def page(capsys) -> dict[str, str]:
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    return dict(re.findall(r"^  (.{20}) (.*)$", output, re.MULTILINE)) | {"all": output}


def test_it_says_what_a_bug_report_needs_and_no_secret(home, capsys):
    lines = {name.strip(): value for name, value in page(capsys).items()}
    assert re.fullmatch(r"\d+\.\d+.*", lines["torch"])
    assert "threads" in lines["cpu"]
    assert re.match("yes|no: ", lines["bfloat16, cpu"])
    assert lines["cache of dit"] == "~/.cache/dit, 0.1 GB"
    assert lines["Hub login"] == "a token is there"
    assert re.fullmatch(r"[\d.]+ GB", lines["free, here"])
    assert "hf_secret" not in lines["all"]
    assert str(home) not in lines["all"]


def test_it_says_what_is_not_installed(home, capsys, monkeypatch):
    from dit.verbs import doctor

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", missing)
    lines = {name.strip(): value for name, value in page(capsys).items()}
    assert lines["dit-zoo"].startswith("not installed")
    assert lines["--quantize"] == "no: pip install 'dit-zoo[quantize]'"


@pytest.mark.gpu
def test_a_gpu_is_told(home, capsys):
    lines = {name.strip(): value for name, value in page(capsys).items()}
    name = torch.cuda.get_device_name()
    assert lines["cuda:0"].startswith(name)
    assert describe_machine(torch.device("cuda"))["gpu"] == name
