"""What answers without torch: counted in imported modules, which is the same on every machine, rather than in time."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "torchvision", "timm", "diffusers", "datasets", "accelerate", "pandas", "numpy", "PIL"}
RECIPE = str(Path(__file__).parents[1] / "configs" / "dit_ti_2_mnist.yaml")
PROBE = """
import sys
before = set(sys.modules)
exec(sys.argv[1])
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}), file=sys.stderr)
print(len(set(sys.modules) - before), file=sys.stderr)
"""


def imports_of(code: str, cwd) -> tuple[set[str], int]:
    """Top-level packages that the code imports in a fresh process, and the number of modules."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, code], capture_output=True, text=True, check=True, cwd=cwd, timeout=60
    )
    *_, names, count = run.stderr.splitlines()
    return set(names.split()), int(count)


def command(*argv: str, code: int) -> str:
    return f"from dit.cli import main; assert main({list(argv)}) == {code}"


@pytest.mark.parametrize(
    "code",
    [
        "import dit; dit.__version__; dir(dit)",
        "import dit; assert len(dit.list_models('dit_*')) == 13",
        command("--help", code=0),
        command("models", code=0),
        command("models", "dit_*_2", code=0),
        command("info", "dit_xl_2", code=0),
        command("info", "nothing", code=2),
        command("train", "--help", code=0),
        command("train", RECIPE, "--help", code=0),
        command("sample", "--help", code=0),
        command("evaluate", "--help", code=0),
        command("train", RECIPE, "--optim.lrr", "1", code=2),
        command("train", RECIPE, "--optim.lr", "x", code=2),
        command("train", RECIPE, "--model.num_heads", "5", code=2),
        command("train", RECIPE, "--model.name", "dit_xll_2", code=2),
        command("train", RECIPE, "--output", ".", code=2),
        command("train", "nothing.yaml", code=2),
        command("sample", "nothing", code=2),
        command("sample", "nothing", "--steps", "0", code=2),
    ],
)
def test_is_answered_without_heavy_imports(code, tmp_path):
    (tmp_path / "file").touch()
    packages, count = imports_of(code, tmp_path)
    assert packages & HEAVY == set()
    assert count < 1000


def test_the_probe_sees_a_heavy_import(tmp_path):
    packages, _ = imports_of("def f():\n    import numpy\nf()", tmp_path)
    assert "numpy" in packages


def test_an_image_takes_torch_alone(tmp_path):
    """No collection of networks."""
    sample = command("sample", "dit_ti_2.mnist", "--classes", "3", "--steps", "1", "--out", "x.png", code=0)
    packages, _ = imports_of(sample, tmp_path)
    assert packages & {"torch", "PIL"} == {"torch", "PIL"}
    assert packages & {"diffusers", "timm", "transformers", "datasets", "accelerate", "scipy"} == set()
