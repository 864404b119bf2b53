"""The notebook of the documents runs from top to bottom, with the packages of the extra docs."""

import json
import subprocess
import sys

import pytest

from tests.command import ROOT

NOTEBOOK = ROOT / "docs" / "first_model.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    pytest.importorskip("nbclient", reason="pip install '.[docs]'")
    copy = tmp_path / NOTEBOOK.name
    copy.write_bytes(NOTEBOOK.read_bytes())
    # In a process of its own: warnings of Jupyter's are none of ours.
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", "--inplace", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = [line for output in json.loads(copy.read_text())["cells"][-1]["outputs"] for line in output["text"]]
    assert "the same images: True\n" in printed


def test_the_notebook_is_stored_as_it_ran():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", [])) == 4
    assert NOTEBOOK.stat().st_size < 400_000
