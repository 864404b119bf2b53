"""What tools/build_docs.py makes before zensical runs; the strict build itself is a job of the schedule."""

import base64
import json

import pytest

from dit.cli import VERBS
from dit.errors import DitError
from tests.command import ROOT, load_tool


@pytest.fixture(scope="module")
def tool():
    return load_tool("build_docs")


@pytest.fixture(scope="module")
def staged(tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    tool.stage(folder)
    return folder


def test_the_page_of_commands_has_all_verbs_and_options(staged):
    page = (staged / "docs/reference/command_line.md").read_text()
    assert [verb for verb in VERBS if f"\n## dit {verb}\n" not in page] == []
    assert "--dry_run" in page
    assert "\nfields of" not in page


def test_the_page_of_fields_has_every_section(staged):
    page = (staged / "docs/reference/configuration.md").read_text()
    for field in ("model.name", "process.name", "train.batch_size", "optim.lr", "evaluation.features"):
        assert f"  --{field} " in page, field


def test_links_to_files_of_the_tree_lead_to_pages_that_show_them(staged):
    assert "(source/tests/models/mixer.py.md)" in (staged / "docs/plugins.md").read_text()
    shown = (staged / "docs/source/tests/models/mixer.py.md").read_text()
    assert (ROOT / "tests/models/mixer.py").read_text().strip() in shown
    assert not [path for path in (staged / "docs").rglob("*.md") if "](../../tests" in path.read_text()]


def test_a_notebook_becomes_a_page_with_pictures(tool, tmp_path):
    picture = base64.b64encode(b"png").decode()
    outputs = [{"output_type": "stream", "text": ["two\n"]}, {"data": {"image/png": picture, "text/plain": ["<I>"]}}]
    cells = [
        {"cell_type": "markdown", "source": ["# One\n", "text"]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": outputs},
    ]
    (tmp_path / "book.ipynb").write_text(json.dumps({"cells": cells}))
    tool.write_notebook_page(tmp_path / "book.ipynb")
    expected = "# One\ntext\n\n```python\nprint(1)\n```\n\n~~~~text\ntwo\n~~~~\n\n![What the cell shows](book_1.png)\n"
    assert (tmp_path / "book.md").read_text() == expected
    assert (tmp_path / "book_1.png").read_bytes() == b"png"


@pytest.mark.parametrize(
    "line",
    [
        '<script src="https://cdn.example/x.js">',
        '<link rel="stylesheet" href="//fonts.example/x.css">',
        "<img alt=x src=http://example/x.png>",
        "@font-face{src:url(https://fonts.example/x.woff2)}",
    ],
)
def test_what_loads_from_elsewhere_is_refused(tool, tmp_path, line):
    (tmp_path / "index.html").write_text(
        '<link rel="canonical" href="https://example/"><a href="https://example">x</a><script src="x.js">'
    )
    tool.check_loads_nothing(tmp_path)
    (tmp_path / "page.html").write_text(line)
    with pytest.raises(DitError, match=r"page\.html: expected nothing from elsewhere"):
        tool.check_loads_nothing(tmp_path)


def test_a_folder_that_is_no_site_is_kept(tool, tmp_path):
    with pytest.raises(DitError, match="expected a new folder"):
        tool.main(["--out", str(tmp_path)])
