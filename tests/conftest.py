"""Settings of the whole suite: one thread, no network, caches in a temporary folder."""

import os
import sys
import time
from types import SimpleNamespace

import pytest

# Before torch is imported: many small products are slower with several threads, and results depend on their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before the Hub's client is imported, which reads it once: a test that reached for the network would be caught.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """-n auto: a process for each core, at most four, for each takes 1 to 1.5 GB; some tests start processes too."""
    return min(4, os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _threads():
    """Take back the threads that a benchmark asked for: processes that a later test forks would wait for them."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory):
    """Keep the user's cache of latents, and subprocesses of tests, out of each other's way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIT_CACHE", str(tmp_path_factory.mktemp("dit_cache")))
        yield


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that this process talks to, logged in, with empty caches and plain LFS transfers."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    from tests.hub_double import TOKEN, Hub, connect

    impatient = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr(_http, "time", impatient)
    monkeypatch.setattr(file_download, "time", impatient)
    with Hub() as hub:
        connect(monkeypatch, hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("DIT_CACHE", str(tmp_path / "dit_cache"))
        yield hub


@pytest.fixture
def small_protocols(monkeypatch, tmp_path):
    """Protocols by a network whose weights need no download."""
    from dataclasses import replace

    from dit.evaluation import protocols
    from tests.evaluation.small_network import SMALL, small_protocol

    small = {name: small_protocol(name) for name in ("adm", "torch-fidelity")}
    small["clean"] = replace(small_protocol("clean"), networks=(replace(SMALL, resize=protocols.pillow_bicubic_float),))
    for name, protocol in small.items():
        monkeypatch.setitem(protocols.PROTOCOLS, name, protocol)
    monkeypatch.setenv("DIT_CACHE", str(tmp_path / "cache"))
