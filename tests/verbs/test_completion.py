"""What bash completes by the script that is printed, by calling its function as bash does."""

import contextlib
import shutil
import subprocess

import pytest

from dit.cli import main
from tests.command import ROOT, runs

_TRY = """
source "$1"; shift
COMP_WORDS=(dit "$@"); COMP_CWORD=$#
_shtab_dit
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "dit.bash"
    with path.open("w") as file, contextlib.redirect_stdout(file):
        assert main(["completion", "bash"]) == 0
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sam"], ["sample"]),
        (["train", "dit_ti_2_mn"], ["dit_ti_2_mnist", "dit_ti_2_mnist_gaussian"]),
        (["sample", "dit_ti_2.mnist_"], ["dit_ti_2.mnist_gaussian"]),
        (["sample", "READ"], ["README.md"]),
        (["sample", "x", "--traj"], ["--trajectory"]),
        (["export", "READ"], ["README.md"]),
        (["convert", "x", "y", "--to", ""], ["native", "original", "diffusers"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
    ],
)
def test_verbs_names_options_values_and_files_are_completed(script, words, expected):
    done = subprocess.run(
        ["bash", "-c", _TRY, "bash", str(script), *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_their_own(capsys, shell):
    text = "\n".join(runs(capsys, "completion", shell))
    assert "dit_ti_2.mnist" in text
    assert "--trajectory" in text or "-l trajectory" in text
