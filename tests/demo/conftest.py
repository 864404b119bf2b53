"""Models of the page for tests: the embedded ones, and one that fails to load."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dit.files import ASSETS
from tests.command import ROOT

MODEL = "dit_ti_2.mnist"


@pytest.fixture(scope="session")
def broken(tmp_path_factory):
    """An exported folder whose weights are cut short."""
    folder = tmp_path_factory.mktemp("some models") / "broken_digits"
    shutil.copytree(ASSETS / MODEL, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return folder


@pytest.fixture(scope="session")
def models(broken):
    """What a page has that was started with the broken one."""
    from dit.demo.models import Models

    return Models([str(broken)])


@dataclass(frozen=True)
class Server:
    """A running `dit demo`."""

    address: str
    port: int
    folder: Path
    """Where it was started."""
    temporary: Path
    """Where it may write."""
    home: Path
    """The home folder of its user."""
    process: subprocess.Popen


@contextmanager
def serving(folder, *sources):
    """Run `dit demo` in a folder of its own until the block ends, as a user would."""
    started, temporary, home = (folder / name for name in ("started here", "temporary", "home"))
    for place in (started, temporary, home):
        place.mkdir()
    places = {"TMPDIR": str(temporary), "HOME": str(home), "HF_HOME": str(home / "hf"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "dit", "demo", *map(str, sources), "--port", "0"]
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=started, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address
        try:
            yield Server(address, int(address.rpartition(":")[2]), started, temporary, home, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory, broken):
    """A page with the broken model and the embedded ones."""
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'dit-zoo[demo]'")
    with serving(tmp_path_factory.mktemp("server"), MODEL, broken) as running:
        yield running
