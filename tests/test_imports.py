"""What answers without torch: counted in imported modules, which is the same on every machine, rather than in time."""

import json
import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "torchvision", "timm", "diffusers", "datasets", "accelerate", "pandas", "numpy", "PIL"}
RECIPE = str(Path(__file__).parents[1] / "configs" / "dit_ti_2_mnist.yaml")
PROBE = """
import json, sys
for code in json.loads(sys.argv[1]):
    before = set(sys.modules)
    exec(code)
    print("NEW", json.dumps(sorted(set(sys.modules) - before)))
"""


def imports_of(*codes: str, cwd) -> list[list[str]]:
    """Modules that each piece of code adds when they run one after the other in a fresh process."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(codes)], capture_output=True, text=True, cwd=cwd, timeout=100
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line.removeprefix("NEW ")) for line in run.stdout.splitlines() if line.startswith("NEW ")]


def packages(modules: list[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def command(*argv: str, code: int) -> str:
    return f"from dit.cli import main; assert main({list(argv)}) == {code}"


LIGHT = [
    "import dit; dit.__version__; dir(dit); dit.register_features",
    "import dit; assert len(dit.list_models('dit_*')) == 16",
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
]


def test_what_is_answered_without_heavy_imports(tmp_path):
    """One process for all: what is heavy shows at the first command that brings it."""
    (tmp_path / "file").touch()  # a folder that is not empty is no --output
    found = imports_of(*LIGHT, cwd=tmp_path)
    assert len(found) == len(LIGHT)
    faults = {code: packages(new) & HEAVY for code, new in zip(LIGHT, found, strict=True) if packages(new) & HEAVY}
    assert faults == {}
    assert sum(map(len, found)) < 1000


def test_the_probe_sees_a_heavy_import(tmp_path):
    light, heavy = imports_of("import json", "def f():\n    import numpy\nf()", cwd=tmp_path)
    assert packages(light) & HEAVY == set()
    assert "numpy" in packages(heavy)


def test_an_image_takes_torch_alone(tmp_path):
    """No collection of networks, and no compiler, which weights that are drawn on the meta device would bring."""
    sample = command("sample", "dit_ti_2.mnist", "--classes", "3", "--steps", "1", "--out", "x.png", code=0)
    (modules,) = imports_of(sample, cwd=tmp_path)
    assert packages(modules) >= {"torch", "PIL"}
    assert packages(modules) & {"diffusers", "timm", "transformers", "datasets", "accelerate", "scipy"} == set()
    assert {"torch._dynamo", "torch._inductor"}.isdisjoint(modules)
