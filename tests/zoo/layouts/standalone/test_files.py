"""Files of code that stand alone."""

import ast
import hashlib

import pytest

from dit.diffusion.config import AverageVelocityConfig, EdmConfig, FlowConfig, GaussianConfig
from dit.errors import ConfigError, DitError
from dit.models.families import FAMILIES
from dit.models.family import Family
from dit.models.registry import network_class
from dit.sampling import solvers
from dit.sampling.config import SamplingConfig
from dit.zoo.layouts.standalone.files import check_code, network_file, pipeline_file, sampler_file

ALLOWED = {
    "abc",
    "collections",
    "dataclasses",
    "difflib",
    "diffusers",
    "functools",
    "math",
    "torch",
    "torchdiffeq",
    "typing",
}
EVERY_SOLVER = [SamplingConfig.model_validate({"solver": name}) for name in solvers.SOLVERS]
FILES = {
    **{name: lambda family=family: network_file(family) for name, family in FAMILIES.items()},
    **{
        process.name: lambda process=process: sampler_file(process, *EVERY_SOLVER)
        for process in (FlowConfig(), GaussianConfig(), EdmConfig(), AverageVelocityConfig())
    },
    "pipeline": pipeline_file,
}


def defined(tree):
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_diffusers_and_torch_alone_and_is_called_by_its_hash(name):
    file = FILES[name]()
    tree = ast.parse(file.text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert {module.partition(".")[0] for module in modules} <= ALLOWED
    assert file.class_name in defined(tree)
    assert file.module == f"{name}_{hashlib.sha256(file.text.encode()).hexdigest()[:8]}"
    assert "Apache License" in file.text.splitlines()[0]
    assert max(map(len, file.text.splitlines())) <= 122  # a docstring's, as a comment


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_is_there_without_what_training_and_fitting_ask_of_it(name):
    text = network_file(FAMILIES[name]).text
    original = network_class(name)
    functions = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    assert {"forward", "check_input", "null_class"} <= functions
    assert "Graphs" not in text
    for absent in ("fit", "prepare", "forward_masked", "forward_routed", "backward"):
        assert absent not in functions, absent
    assert hasattr(original, "fit")
    assert "model_validator" not in text
    assert "pydantic" not in text


def test_a_sampler_holds_the_solvers_that_are_asked_for():
    short = sampler_file(FlowConfig(), SamplingConfig()).text
    long = sampler_file(FlowConfig(), *EVERY_SOLVER).text
    assert {"Euler", "Heun"} <= defined(ast.parse(short))
    assert not {"UniPC", "Dpmpp2M"} & defined(ast.parse(short))
    assert {"UniPC", "Dpmpp2M", "Dopri5"} <= defined(ast.parse(long))
    for trained in ("losses", "time_law", "loss_weight"):
        assert trained not in {node.attr for node in ast.walk(ast.parse(long)) if isinstance(node, ast.Attribute)}


def test_code_of_plugins_stays_where_it_is(monkeypatch):
    dit = FAMILIES["dit"]
    plugin = Family("mine", dit.arguments, "my_plugin:Mine", {})
    with pytest.raises(ConfigError, match="expected a network of this package, found mine, a plugin's"):
        network_file(plugin)
    monkeypatch.setitem(solvers.SOLVERS, "mine", solvers.Entry(solvers.SolverOptions, lambda options: None))
    with pytest.raises(ConfigError, match="expected a solver of this package, found mine, a plugin's"):
        sampler_file(FlowConfig(), SamplingConfig.model_validate({"solver": "mine"}))


def test_code_that_was_changed_is_refused(tmp_path):
    file = pipeline_file()
    (tmp_path / f"{file.module}.py").write_text(file.text)
    check_code(tmp_path)
    (tmp_path / f"{file.module}.py").write_text(file.text + "import os\n")
    with pytest.raises(DitError, match="expected the code that `dit convert` wrote"):
        check_code(tmp_path)
