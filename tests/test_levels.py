"""Only downward imports and no circles, read off the syntax trees: imports in functions and for type checking count."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dit"
LEVELS = {
    "axes": 0, "charts": 0, "device": 0, "display": 0, "errors": 0, "failpoints": 0, "figures": 0, "files": 0,
    "hub_errors": 0, "hub_files": 0, "hub_ids": 0, "launcher": 0, "lazy": 0, "markdown": 0, "npz": 0, "pickle_file": 0,
    "plugins": 0, "png_info": 0, "recipes": 0, "rng": 0, "schema": 0, "signals": 0, "tensors": 0, "validation": 0,
    "yaml12": 0,
    "layers": 1, "diffusion": 1, "data": 1, "checkpoint": 1, "encoders": 1,
    "models": 2, "sampling": 2, "latents": 2, "run_files": 2,
    "config": 3,
    "evaluation": 4, "zoo": 4,
    "training": 5,
    "bench": 6, "demo": 6, "drawing": 6, "making": 6,
    "measuring": 6, "recipe_help": 6, "verbs": 6, "cli": 6, "__main__": 6, "__init__": 6,
}  # fmt: skip
# Inside a component, lowest first; those that share a rank may not import each other.
RANKS = {
    "evaluation": [
        "config classifier result likelihood_result moments versions", "feature_set networks image_files",
        "extractors parts", "features metrics drawn", "described failures feature_parts protocols", "references",
        "measure", "results_table", "evaluate likelihood",
    ],
    "zoo": [
        "entries labels", "folder tables", "cards family_tables", "layouts", "hub", "source turns",
        "load pipeline create convert described finetune", "pictures", "export",
    ],
    "training": [
        "config plan resolve stopwatch", "batch", "ranks", "weights run",
        "monitor objectives compilation activations", "step", "trainer", "setup", "loop memory",
    ],
}  # fmt: skip
TABLES = ["dit.sampling.solvers", "dit.training.objectives.config"]
STRANGERS = [("models", "diffusion"), ("diffusion", "models"), ("training", "zoo"), ("evaluation", "zoo")]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imported(source: str) -> Iterator[str]:
    """Yield every module that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            # The version stands in dit/__init__.py, but asking for it imports nothing else.
            yield from (name if is_module(name) else str(node.module) for name in whole if name != "dit.__version__")


MODULES = {name_of(path): frozenset(imported(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))}
GRAPH = {
    module: {name for name in names if name == "dit" or name.startswith("dit.")} for module, names in MODULES.items()
}


def is_config(module: str) -> bool:
    """Whether a module is a component's section of the recipe, such as `dit.data.config`, or a table that one opens."""
    return module in TABLES or (module.count(".") == 2 and module.endswith(".config"))


def level_of(module: str) -> int:
    """Level of a module such as `dit.models.registry`; a component's `config` is torch-free and lies at 1."""
    return 1 if is_config(module) else LEVELS[(module.split(".")[1:] or ["__init__"])[0]]


def rank_of(component: str, part: str) -> int:
    ranks = [rank for rank, names in enumerate(RANKS[component]) if part in names.split()]
    return ranks[0] if ranks else len(RANKS[component])


def is_upward(module: str, name: str) -> bool:
    """Whether a module of the package may not import another one."""
    (component, *inner), (other, *others) = (full.split(".")[1:] or ["__init__"] for full in (module, name))
    level, other_level = level_of(module), level_of(name)
    if component == other in RANKS and inner and others and inner[0] != others[0]:
        return rank_of(component, others[0]) >= rank_of(component, inner[0])
    if (component, other) in STRANGERS and not is_config(name):
        return True
    may_be_level = other == component or level in (0, 6) or module == "dit.config" or is_config(module)
    return other_level > level or (other_level == level and not may_be_level)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    reached: dict[str, set[str]] = {}
    for module in graph:
        seen, waiting = set(), list(graph[module])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph.get(name, ())
        reached[module] = seen
    groups = {
        tuple(sorted(name for name in reached[m] if m in reached.get(name, ()))) for m in graph if m in reached[m]
    }
    return sorted(map(list, groups))


def test_every_module_has_a_level_and_a_rank():
    parts = [module.split(".")[1:] for module in MODULES]
    assert {first for first, *_ in parts} <= set(LEVELS), "give it a place in LEVELS"
    for component, ranks in RANKS.items():
        inside = {rest[0] for first, *rest in parts if first == component and rest}
        assert inside <= set(" ".join(ranks).split()), "give it a place in RANKS"


def test_only_downward_imports():
    found = {f"{module} imports {name}" for module, names in GRAPH.items() for name in names if is_upward(module, name)}
    assert found == set()


def test_no_circles():
    assert circles(GRAPH) == []


def test_the_reader_of_imports_sees_upward_ones():
    upward = [
        ("dit.data.order", "from dit.config import Recipe"),
        ("dit.data.order", "def f():\n    import dit.zoo.pipeline"),
        ("dit.data.order", "if TYPE_CHECKING:\n    from dit.models.registry import create_model"),
        ("dit.models.registry", "from dit.diffusion.flow import Flow"),
        ("dit.training.loop", "from dit.zoo.export import export"),
        ("dit.training.loop", "import dit"),
        ("dit.config", "from dit.training.loop import run"),
        ("dit.training.config", "from dit.sampling.sampler import sample"),
        ("dit.training.ranks.heartbeat", "from dit.training.run.resume import x"),
        ("dit.zoo.folder.config", "from dit.zoo.pipeline import load_pipeline"),
    ]
    downward = [
        ("dit.training.loop", "from dit import checkpoint, __version__"),
        ("dit.config", "from dit.training.config import TrainConfig"),
        ("dit.training.loop", "from dit.training.weights.ema import Ema"),
        ("dit.zoo.pipeline", "from dit.zoo.folder import config"),
        ("dit.zoo.hub.pull", "from dit.zoo.hub.errors import reason"),
        ("dit.cli", "from dit import __version__"),
        ("dit.data.order", "import dataclasses, ditto"),
    ]
    for cases, expected in ((upward, True), (downward, False)):
        for module, source in cases:
            names = [name for name in imported(source) if name.split(".")[0] == "dit"]
            assert any(is_upward(module, name) for name in names) == expected, (module, source)


def test_the_reader_of_imports_sees_circles():
    assert circles(
        {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"f"}, "f": {"g", "torch"}, "g": {"e"}}
    ) == [
        ["b", "c"],
        ["e", "f", "g"],
    ]


def test_timm_stays_out_of_layers_and_models():
    inside = {module: names for module, names in MODULES.items() if module.startswith(("dit.layers", "dit.models"))}
    assert [module for module, names in inside.items() if "timm" in {name.split(".")[0] for name in names}] == []
