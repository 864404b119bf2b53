"""Running commands in tests."""

import importlib.util
import sys
from pathlib import Path

from dit.cli import main

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "configs" / "dit_ti_2_mnist.yaml")
TINY = ["--model.hidden_size", "48", "--model.depth", "2", "--train.batch_size", "8", "--train.log_every", "1"]
TINY += ["--train.preview_samples", "4", "--train.validation_samples", "16", "--sampling.steps", "2"]


def fails(capsys, *argv, code=2):
    """Run a command that fails, and return its one line."""
    assert main([str(argument) for argument in argv]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("dit: ")
    return line.removeprefix("dit: ")


def runs(capsys, *argv):
    """Run a command that succeeds, and return the lines that it printed."""
    assert main([str(argument) for argument in argv]) == 0
    return capsys.readouterr().out.splitlines()


def load_tool(name):
    """Import a file of tools/, anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
