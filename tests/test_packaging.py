"""pyproject.toml and the README say what is true of the code."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import dit
from dit.recipes import list_recipes
from tests.test_levels import imported

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "torch_fidelity": "torch-fidelity", "pydantic_core": "pydantic"}
UNSEEN = {"tensorboard", "wandb", "diffusers"}  # imported by Accelerate, also through torch; imported by name


def names(requirements):
    return {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}


def test_every_import_is_a_declared_dependency_and_the_other_way_round():
    used = {name.split(".")[0] for path in (ROOT / "dit").rglob("*.py") for name in imported(path.read_text())}
    used = {DISTRIBUTIONS.get(name, name).lower() for name in used - set(sys.stdlib_module_names) - {"dit"}}
    extras = [
        names(extra) for key, extra in PROJECT["optional-dependencies"].items() if key not in ("test", "docs", "dev")
    ]
    declared = names(PROJECT["dependencies"]).union(*extras)
    assert used | UNSEEN == declared


def test_every_requirement_has_a_lower_bound():
    extras = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
    for requirement in [*PROJECT["dependencies"], *extras]:
        assert ">=" in requirement or requirement.startswith("dit-zoo["), requirement


def test_every_public_name_is_there():
    assert [name for name in dit.__all__ if not callable(getattr(dit, name))] == []
    assert set(dit.__all__) <= set(dir(dit))
    assert len(dit.__all__) <= 10


@pytest.mark.parametrize("name", ["dit", "dit.diffusion", "dit.latents", "dit.sampling", "dit.training"])
def test_every_public_name_of_a_package_has_a_home(name):
    package = importlib.import_module(name)
    assert sorted(package._HOMES) == sorted(package.__all__)
    for public in package.__all__:
        assert getattr(package, public).__name__ == public


def test_public_packages_import_no_torch():
    code = "import dit.diffusion, dit.latents, dit.sampling, dit.training, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_readme_names_what_is_there():
    for path in re.findall(r"(?:configs|tools|tests)/[\w.]+\.(?:yaml|py)", README):
        assert (ROOT / path).is_file(), path
    for verb in re.findall(r"(?<=[\s`/])dit ([a-z]+)(?= )", README):
        assert (ROOT / "dit" / "verbs" / f"{verb}.py").is_file(), verb
    for extra in re.findall(r"'\.\[(\w+)\]'", README):
        assert extra in PROJECT["optional-dependencies"]
    for recipe in re.findall(r"dit train (\w+)", README):
        assert recipe in list_recipes(), recipe


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_snippets_of_the_readme_run_as_they_stand(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})


def test_the_training_loop_of_the_documents_runs_and_what_follows_uses_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    first, *rest = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(first.splitlines()) <= 42
    names: dict[str, Any] = {}
    for snippet in (first.replace("range(1, 501)", "range(1, 4)").replace("% 100", "% 1"), *rest):
        exec(snippet, names)
    assert names["digits"].shape == (10, 1, 32, 32)
    assert [name for name in names["folder"].iterdir() if name.name == "model.safetensors"]


def test_the_readme_has_one_command_that_runs_the_tests_and_ci_runs_it():
    (command,) = [line for line in README.splitlines() if "'.[test]'" in line]
    tests = ".venv/bin/pytest -n auto --dist loadfile"
    assert command == f"python3 -m venv .venv && .venv/bin/pip install '.[test]' && {tests}"
    assert "'.[test]'" in (ROOT / ".ci" / "run").read_text()
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fma avx2", []),
        ("avx2 avx_vnni", ["AVX2"]),
        ("avx2 avx512f avx512bw", ["AVX2"]),
        ("avx2 avx512bw avx512_vnni", ["AVX2", "AVX512_CORE"]),
        ("avx512bw avx512_vnni avx512_bf16", ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"]),
        ("avx512bw avx512_vnni amx_tile", ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"]),
    ],
)
def test_the_limits_are_those_below_the_processor(tmp_path, flags, expected):
    cpuinfo = f"processor\t: 0\nflags\t\t: fpu {flags}\n" * 2
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    command = ["bash", ROOT / ".ci" / "limits", tmp_path / "cpuinfo"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"ONEDNN_MAX_CPU_ISA=(\w+)", shown) == expected


def test_the_licence_is_the_whole_apache_licence():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")


def test_the_citation_is_of_this_version():
    assert f"version: {dit.__version__}" in (ROOT / "CITATION.cff").read_text().splitlines()
