"""A user's own files: run before parsing, recorded by name and hash, and asked for where one is missing."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from dit import plugins
from dit.cli import main
from dit.data import registry
from dit.sampling import solvers
from tests.command import RECIPE, ROOT, TINY, fails, runs


@pytest.fixture(autouse=True)
def _none_loaded(monkeypatch):
    monkeypatch.setattr(plugins, "_loaded", [])


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("print('plugin loaded')\n")
    return path


def test_a_plugin_is_run_once_and_before_the_verb_is_parsed(plugin, capsys):
    lines = runs(capsys, "models", "dit_ti_2", "--plugin", plugin, "--plugin", plugin)
    assert [line.split()[0] for line in lines] == ["plugin", "dit_ti_2"]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("x = 1\nx = 1 +\n", ":2: SyntaxError: invalid syntax"),
        ("import json\n\njson.loads('{')\n", ":3: JSONDecodeError: Expecting property name enclosed in double quotes"),
        ("from dit.errors import ConfigError\nraise ConfigError('name: taken')\n", ":2: name: taken"),
    ],
)
def test_a_plugin_that_fails_is_one_line_with_its_place(plugin, text, end, capsys):
    plugin.write_text(text)
    assert fails(capsys, "info", "dit_ti_2.mnist", "--plugin", plugin).startswith(f"{plugin}{end}")
    assert plugins.loaded_plugins() == ()


def test_a_plugin_has_to_be_named_and_there(tmp_path, capsys):
    assert "none.py: expected a Python file" in fails(capsys, "models", "--plugin", tmp_path / "none.py")
    assert fails(capsys, "models", "--plugin") == "dit models: --plugin: expected a value, found none"
    assert fails(capsys, "recipes", "--plugin", "x").startswith("dit recipes: unknown option --plugin")


def test_what_was_made_with_a_plugin_asks_for_it(plugin, tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--train.max_steps", "1", "--evaluation.features", "null", *TINY]
    runs(capsys, "train", RECIPE, "--output", run, "--plugin", plugin, *options)
    digest = hashlib.sha256(plugin.read_bytes()).hexdigest()
    for file in (run / "run.json", run / "export" / "config.json"):
        content = json.loads(file.read_text())
        assert content["plugins"] == [{"name": "mine.py", "sha256": digest}]
    assert not list(run.rglob("*.py"))  # never copied

    plugins._loaded.clear()
    runs(capsys, "info", run / "export")  # nothing of the plugin is needed
    solver, content["sampling"]["solver"] = content["sampling"]["solver"], "mine"
    file.write_text(json.dumps(content))
    line = fails(capsys, "info", run / "export")
    assert line.startswith(f"{file}: sampling.solver: expected ")
    hint = f"made with mine.py (sha256 {digest[:12]}): add --plugin mine.py, in Python import that file first"
    assert line.endswith(hint)

    content["sampling"]["solver"] = solver
    file.write_text(json.dumps(content))
    plugin.write_text("print('another')\n")
    assert main(["info", str(run / "export"), "--plugin", str(plugin)]) == 0
    assert "plugin mine.py has changed since this was made (sha256 now " in capsys.readouterr().err


def test_the_plugin_of_the_docs_samples_and_trains(tmp_path, capsys, monkeypatch, request):
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    request.addfinalizer(lambda: (solvers.SOLVERS.pop("mine"), registry._REGISTERED.pop("rings")))
    images = {}
    for name, options in {"damped": ["--sampling.solver.damping", "0.5"], "mine": [], "ddim": []}.items():
        solver = ["--solver", "ddim" if name == "ddim" else "mine", "--steps", "2", *options]
        runs(capsys, "sample", "dit_ti_2.mnist", "--plugin", "mine.py", *solver, "--out", f"{name}.png")
        with Image.open(f"{name}.png") as image:
            images[name] = torch.from_numpy(np.array(image, dtype=np.float32))
    # The steps are the same sums in another order: a pixel can be rounded to the other side.
    assert_close(images["mine"], images["ddim"], atol=1, rtol=0)
    assert (images["mine"] - images["damped"]).abs().max() > 10
    options = ["--model.pretrained", "dit_ti_2.mnist", "--data.source", "rings", "--train.epochs", "1"]
    runs(capsys, "train", "finetune", "--output", "run", "--plugin", "mine.py", *options)
    config = json.loads(Path("run/export/config.json").read_text())
    assert config["id2label"] == {"0": "small", "1": "large"}
    assert [plugin["name"] for plugin in config["plugins"]] == ["mine.py"]
