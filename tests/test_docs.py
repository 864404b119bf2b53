"""docs/, README and CONTRIBUTING: links lead somewhere, all pages are in the navigation, commands are understood."""

import functools
import importlib
import re
import shlex
import tomllib

import pytest

from dit.cli import VERBS, main
from dit.config import Recipe
from dit.recipes import list_recipes
from dit.validation import dotted_fields
from tests.command import ROOT, load_tool

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
MADE = {DOCS / name for name in load_tool("build_docs").MADE}
FIELDS = [name for name, _ in dotted_fields(Recipe)]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page):
    """A page's text without blocks of code."""
    return re.sub(r"^(```|~~~)[^\n]*\n.*?^\1`*$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_to_what_is_there(page):
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", prose(page)):
        target = (page.parent / link).resolve() if link else page
        if target in MADE:
            continue
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), f"{link}#{anchor}"


@each_page
def test_files_that_a_page_names_are_there(page):
    for path in re.findall(r"(?<![\w/.])(?:dit|configs|tools|tests)/[\w./]+\.(?:py|yaml|json|sbatch)\b", prose(page)):
        assert (ROOT / path).is_file(), path


def navigated(items):
    """The pages of a navigation, sections inside of sections too."""
    for item in items:
        for target in item.values():
            yield from [target] if isinstance(target, str) else navigated(target)


def test_every_page_is_in_the_navigation_once():
    nav = list(navigated(tomllib.loads((DOCS / "zensical.toml").read_text())["project"]["nav"]))
    there = [*DOCS.rglob("*.md"), *MADE, *(path.with_suffix(".md") for path in DOCS.glob("*.ipynb"))]
    assert sorted(nav) == sorted(str(path.relative_to(DOCS)) for path in there), "docs/zensical.toml names all pages"


def commands(page):
    """What follows `dit` in each command of a page's blocks of code."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            line = re.sub(r"tools/(?:slurm/train\.sbatch|train\.py)", "dit train", re.sub(r"\$\w+", "1", line))
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            yield from runs_of_dit([*words])


def runs_of_dit(words):
    starts = [k for k, word in enumerate(words) if word in ("dit", ".venv/bin/dit")]
    for start in starts:
        ends = [k for k, word in enumerate(words) if k > start and set(word) <= set("();<>|&")]
        yield words[start + 1 : min(ends, default=len(words))]


@pytest.fixture
def parsed(monkeypatch):
    """Verbs that only check that the fields they are given exist; returns the verbs that were run."""
    seen = []

    def replace(verb):
        module = importlib.import_module(f"dit.verbs.{verb}")

        @functools.wraps(module.run)  # the command line is read by the signature
        def run(*arguments, overrides=(), **options):
            seen.append(verb)
            for key in overrides:
                assert any(field == key or field.startswith(f"{key}.") for field in FIELDS), key

        monkeypatch.setattr(module, "run", run)

    for verb in VERBS:
        replace(verb)
    return seen


@each_page
def test_commands_of_a_page_are_understood(page, parsed, capsys):
    for command in commands(page):
        if {"--plugin", "..."} & {*command}:  # a plugin's own options are not there; dots stand for what came before
            continue
        assert main(command) == 0, (command, capsys.readouterr().err)
        if command[0] == "train" and re.fullmatch(r"[a-z]\w+", command[1]):
            assert command[1] in list_recipes(), command


def test_the_commands_are_found():
    page = ROOT / "README.md"
    found = list(commands(page))
    assert ["train", "dit_ti_2_mnist"] in found
    assert ["sample", "dit_xl_2.in256", "--num", "50000", "--out", "samples.npz"] in found
    assert len(found) > 20
