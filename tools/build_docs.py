"""Build the site of docs/ with zensical, strictly: a broken link or reference ends it.

    pip install '.[docs]' && python tools/build_docs.py [--out site]

What the site has and the tree has not is made here, beside a copy of docs/ in a temporary folder: the pages of
references that follow from the code, the notebook as a page, and a page for each file of the tree that a page links to.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path

from dit.cli import VERBS
from dit.cli import main as dit
from dit.config import Recipe
from dit.errors import DitError
from dit.files import write_text
from dit.recipe_help import recipe_help

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?\[[^\]]*\])\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")
"""Text, path and anchor of a relative link in Markdown."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sbatch": "bash", ".md": "markdown"}
ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*?\bsrc=[\"']?(?:https?:)?//"
    r"|<link\b(?![^>]*canonical)[^>]*?\bhref=[\"']?(?:https?:)?//"
    r"|@import\s|url\([\"']?(?:https?:)?//"
)
"""What loads something from elsewhere, in a page or a style."""


def main(argv: Sequence[str] | None = None) -> int:
    """Build the site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("site"), help="folder of the site; an older one is replaced.")
    out = parser.parse_args(argv).out
    if out.exists() and not (out / "objects.inv").exists():
        raise DitError(f"{out}: expected a new folder, or a site to replace")
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder))
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "zensical.toml"]
        if status := subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode:
            return status
        check_loads_nothing(Path(folder) / "site")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(Path(folder) / "site", out)
    print(out)
    return 0


def stage(folder: Path) -> None:
    """Write all that the site is built of into an empty folder."""
    docs = folder / "docs"
    shutil.copytree(ROOT / "docs", docs)
    (docs / "zensical.toml").rename(folder / "zensical.toml")
    for name, made in MADE.items():
        write_text(docs / name, made())
    for path in docs.glob("*.ipynb"):
        write_notebook_page(path)
    for page in [*docs.rglob("*.md")]:
        link_into_the_site(page, docs)


def command_line() -> str:
    """Return the page of all verbs, by their own `--help`."""
    parts = ["# Command line", "What `dit --help` and `dit VERB --help` print.", _block(_printed(["--help"]))]
    for verb in VERBS:
        parts += [f"## dit {verb}", _block(_printed([verb, "--help"]).partition("\nfields of ")[0])]
    return "\n\n".join(parts) + "\n"


def configuration() -> str:
    """Return the page of all fields of a recipe, with their defaults."""
    parts = [
        "# Configuration",
        "The fields of a recipe, section by section, with their defaults; `dit train RECIPE --help` shows those of a "
        "recipe. `--train.batch_size 64` on the command line is `train: {batch_size: 64}` in a recipe.",
    ]
    with _width():
        for name, field in Recipe.model_fields.items():
            fields = recipe_help(sections=[name]).partition("\n")[2]
            parts += [f"## {name}", " ".join((field.description or "").split()), _block(fields)]
    return "\n\n".join(parts) + "\n"


MADE = {"reference/command_line.md": command_line, "reference/configuration.md": configuration}
"""Pages that are in the site and not in the tree."""


def write_notebook_page(path: Path) -> None:
    """Write a notebook's page beside it: its cells and their outputs, the pictures as files."""
    parts = []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = path.with_name(f"{path.stem}_{number}.png")
                picture.write_bytes(b64decode(data["image/png"]))
                parts.append(f"![What the cell shows]({picture.name})")
            elif text := "".join(output.get("text", data.get("text/plain", []))):
                parts.append(_block(text))
    write_text(path.with_suffix(".md"), "\n\n".join(parts) + "\n")


def link_into_the_site(page: Path, docs: Path) -> None:
    """Make links to files outside of docs/ links to pages that show them: the site is complete without the tree."""

    def target(match: re.Match[str]) -> str:
        text, link = match[1], match[2]
        path = (ROOT / "docs" / page.relative_to(docs).parent / link).resolve()
        if path.is_relative_to(ROOT / "docs"):
            return match[0].replace(".ipynb", ".md")
        shown = docs / "source" / f"{path.relative_to(ROOT)}.md"
        if not shown.exists():
            code = _block(path.read_text(encoding="utf-8"), LANGUAGES.get(path.suffix, "text"))
            write_text(shown, f"# {path.relative_to(ROOT)}\n\n{code}\n")
        return f"{text}({os.path.relpath(shown, page.parent)})"

    write_text(page, LINK.sub(target, page.read_text(encoding="utf-8")))


def check_loads_nothing(site: Path) -> None:
    """Look for scripts, styles, fonts and pictures from elsewhere.

    Raises:
        DitError: a page loads one.
    """
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        if found := ELSEWHERE.search(page.read_text(encoding="utf-8")):
            raise DitError(f"{page.relative_to(site)}: expected nothing from elsewhere, found {found[0]}")


def _printed(argv: Sequence[str]) -> str:
    with _width(), contextlib.redirect_stdout(io.StringIO()) as text:
        dit(argv)
    return text.getvalue()


@contextlib.contextmanager
def _width() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "84"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)


def _block(text: str, language: str = "text") -> str:
    return "\n".join([f"~~~~{language}", text.strip("\n"), "~~~~"])


if __name__ == "__main__":
    sys.exit(main())
