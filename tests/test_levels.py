"""Only downward imports: the levels of the design, read off the syntax trees, imports inside functions included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dit"
LEVELS = {
    "charts": 0, "errors": 0, "files": 0, "rng": 0, "run_files": 0, "schema": 0, "validation": 0, "yaml12": 0,
    "layers": 1, "diffusion": 1, "data": 1, "checkpoint": 1,
    "models": 2, "sampling": 2, "latents": 2,
    "config": 3,
    "evaluation": 4, "zoo": 4,
    "training": 5,
    "bench": 6, "verbs": 6, "cli": 6, "__main__": 6, "__init__": 6,
}  # fmt: skip
STRANGERS = [("models", "diffusion"), ("diffusion", "models"), ("training", "zoo"), ("evaluation", "zoo")]
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def component_and_level(module: str) -> tuple[str, int]:
    """Component and level of a module such as `dit.models.registry`; a `config` file is torch-free and lies at 1."""
    parts = module.split(".")[1:] or ["__init__"]
    if len(parts) > 1 and parts[-1] == "config":
        return parts[0], 1
    return parts[0], LEVELS[parts[0]]


def name_of(file: str) -> str:
    parts = ["dit", *file.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imported(source: str) -> Iterator[str]:
    """Yield every module that a source imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            # The version stands in dit/__init__.py, but asking for it imports nothing else.
            names = [name if is_module(name) else str(node.module) for name in whole if name != "dit.__version__"]
        yield from names


def faults(module: str, source: str) -> list[str]:
    component, level = component_and_level(module)
    found = []
    for name in imported(source):
        if name.split(".")[0] != "dit":
            continue
        other, other_level = component_and_level(name)
        may_be_level = other == component or level in (0, 6) or module.endswith(".config")
        is_upward = other_level > level or (other_level == level and not may_be_level)
        if is_upward or ((component, other) in STRANGERS and not name.endswith(".config")):
            found.append(f"{module} (level {level}) imports {name} (level {other_level})")
    return found


def test_every_file_has_a_level():
    assert {file.split("/")[0].removesuffix(".py") for file in FILES} <= set(LEVELS)


@pytest.mark.parametrize("file", FILES)
def test_only_downward_imports(file):
    assert faults(name_of(file), (PACKAGE / file).read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "is_fault"),
    [
        ("dit.data.order", "from dit.config import Recipe", True),
        ("dit.data.order", "def f():\n    import dit.zoo.pipeline", True),
        ("dit.data.order", "from dit.diffusion import flow", True),
        ("dit.data.order", "if TYPE_CHECKING:\n    from dit.models.dit import DiT", True),
        ("dit.models.dit", "from dit.diffusion.flow import Flow", True),
        ("dit.training.loop", "from dit.zoo.export import export", True),
        ("dit.training.loop", "from dit.cli import main", True),
        ("dit.training.loop", "from dit import __version__", False),
        ("dit.training.loop", "from dit import load_pipeline", True),
        ("dit.training.loop", "from dit import checkpoint, __version__", False),
        ("dit.training.loop", "import dit", True),
        ("dit.config", "from dit.training.config import TrainConfig", False),
        ("dit.config", "from dit.training.loop import run", True),
        ("dit.training.config", "from dit.sampling.sample import sample", True),
        ("dit.training.loop", "from dit.evaluation.metrics import frechet_distance", False),
        ("dit.training.loop", "from dit.training.weights.ema import Ema", False),
        ("dit.files", "from dit.errors import DitError", False),
        ("dit.verbs.train", "from dit.zoo.export import export", False),
        ("dit.cli", "from dit import __version__", False),
        ("dit.data.order", "import dataclasses, ditto", False),
    ],
)
def test_the_reader_of_imports_sees_upward_ones(module, source, is_fault):
    assert bool(faults(module, source)) == is_fault


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith(("layers/", "models/"))])
def test_timm_stays_out_of_layers_and_models(file):
    assert "timm" not in {name.split(".")[0] for name in imported((PACKAGE / file).read_text())}
