"""The zoo's entries agree with their cards, the README and the weights that ship with the package."""

import inspect
import re
from pathlib import Path

import pytest

import dit
from dit.cli import main
from dit.errors import ConfigError
from dit.files import ASSETS
from dit.validation import validate
from dit.zoo.described import entry_card
from dit.zoo.entries import SourceEntry, entries, entry_counts, zoo_table
from dit.zoo.folder.config import Provenance, read_config
from dit.zoo.labels import imagenet_classes, parse_classes
from dit.zoo.load import load_model
from dit.zoo.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
SHIPPED = [name for name, entry in entries().items() if entry.sources[0].embedded]


def test_every_entry_has_a_card_and_every_card_an_entry():
    cards = {path.stem for path in (ROOT / "model_cards").glob("*.md")} - {"template"}
    assert cards == set(entries())


@pytest.mark.parametrize("name", entries())
def test_cards_say_what_the_entries_say(name):
    text = (ROOT / "model_cards" / f"{name}.md").read_text(encoding="utf-8")
    assert text == entry_card(name), "run tools/render_zoo.py"
    assert f"license: {entries()[name].license}" in text
    assert f"{entry_counts(name).parameters:,}" in text


def test_the_readme_holds_the_zoos_table():
    assert zoo_table() in (ROOT / "README.md").read_text(encoding="utf-8"), "run tools/render_zoo.py"


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_what_their_entry_says(name):
    entry, config = entries()[name], read_config(ASSETS / name)
    assert config.process.name == entry.process
    assert config.provenance.license == entry.license
    given = entry.sampling.model_fields_set
    assert config.sampling.model_dump(include=given) == entry.sampling.model_dump(include=given)
    assert sum(parameter.numel() for parameter in load_model(name).parameters()) == entry_counts(name).parameters


def test_models_pretrained_lists_every_entry(capsys):
    assert main(["models", "--pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(entries())
    assert main(["models", "dit_xl_2.in*", "--pretrained"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({}, "expected one of embedded, repository, address and page"),
        ({"embedded": True, "address": "https://a.example/x.pt"}, "expected one of embedded"),
        ({"page": "https://drive.example/folder"}, "file: expected the file's name on the page, found none"),
        ({"repository": "org/name", "sha256": "0" * 64}, "sha256: expected it for one file only"),
    ],
)
def test_a_source_has_one_place(places, message):
    with pytest.raises(ConfigError, match=message):
        validate(SourceEntry, {"layout": "original", **places}, origin="source")


def test_a_place_is_described_with_what_a_reader_has_to_know():
    page = SourceEntry(layout="original", page="https://drive.example/1", file="x.pt", dead="reported dead in 2026")
    assert page.describe() == "https://drive.example/1 file x.pt to be fetched by hand (reported dead in 2026)"


@pytest.mark.parametrize(
    ("identifier", "notice"),
    [
        ("mit", None),
        (None, None),
        ("unknown", "no license"),
        ("cc-by-nc-4.0", "non-commercial use only (cc-by-nc-4.0)"),
    ],
)
def test_a_missing_or_a_non_commercial_license_is_told(identifier, notice):
    found = Provenance(license=identifier).license_notice
    assert found is None if notice is None else notice in found


def test_a_zoo_name_that_is_near_is_suggested(capsys):
    assert main(["info", "dit_ti_2.mnst"]) == 2
    assert "Did you mean 'dit_ti_2.mnist'" in capsys.readouterr().err


def snippet(name):
    (code,) = re.findall(r"```python\n(import dit\n.*?)```", entry_card(name), flags=re.DOTALL)
    result = {}
    exec(compile(code.replace('images[0].save("sample.png")', ""), "snippet", "exec"), result)
    return result["images"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_snippet_of_a_shipped_entrys_card_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {image.size for image in snippet(name)} == {(32, 32)}


def test_the_snippets_of_other_cards_call_the_pipeline_as_it_is(monkeypatch):
    """Their weights would have to be downloaded: the arguments are held to the signature and to ImageNet's names."""

    def load(source):
        def call(*given, **options):
            arguments = inspect.signature(Pipeline.__call__).bind(None, *given, **options).arguments
            return source, parse_classes(arguments["classes"], imagenet_classes())

        return call

    monkeypatch.setattr(dit, "load_pipeline", load)
    for name in set(entries()) - set(SHIPPED):
        source, classes = snippet(name)
        assert source == name
        assert 0 < len(set(classes)) == len(classes)
