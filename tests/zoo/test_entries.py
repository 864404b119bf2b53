"""The zoo's entries agree with their cards, the README and the weights that ship with the package."""

import inspect
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import dit
from dit.cli import main
from dit.data.imagenet import imagenet_classes
from dit.diffusion.create import create_process
from dit.diffusion.process import Denoised
from dit.errors import ConfigError
from dit.files import ASSETS
from dit.models.families import FAMILIES, family_of
from dit.models.registry import build
from dit.sampling.grid import create_grid
from dit.sampling.sampler import guidance_of
from dit.sampling.solvers.step import create_solver
from dit.validation import validate
from dit.zoo.described import describe_entry, entry_card
from dit.zoo.entries import SourceEntry, architecture_of, entries, entry_arguments, entry_counts
from dit.zoo.family_tables import family_pages, family_tables
from dit.zoo.folder.config import Provenance, read_config
from dit.zoo.labels import parse_classes
from dit.zoo.layouts.table import from_native, recognise
from dit.zoo.load import load_model
from dit.zoo.pipeline import Pipeline
from dit.zoo.tables import BEST_KNOWN, measured_table, zoo_document, zoo_table

ROOT = Path(__file__).parents[2]
SHIPPED = [name for name, entry in entries().items() if entry.sources[0].embedded]


def test_every_entry_has_a_card_and_every_card_an_entry():
    cards = {path.stem for path in (ROOT / "model_cards").glob("*.md")} - {"template", "latents"}
    assert cards == set(entries())


@pytest.mark.parametrize("name", entries())
def test_cards_say_what_the_entries_say(name):
    text = (ROOT / "model_cards" / f"{name}.md").read_text(encoding="utf-8")
    assert text == entry_card(name), "run tools/render_zoo.py"
    assert f"license: {entries()[name].license}" in text
    assert f"{entry_counts(name).parameters:,}" in text


def test_the_readme_and_the_document_hold_the_zoos_tables():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, table in (("zoo", zoo_table()), ("measured", measured_table())):
        assert f"<!-- {name} -->\n\n{table}\n\n<!-- /{name} -->" in readme, "run tools/render_zoo.py"
    assert zoo_document() == (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8"), "run tools/render_zoo.py"


@pytest.mark.parametrize("page", family_pages())
def test_pages_of_families_hold_the_tables_of_the_entries(page):
    text = (ROOT / "docs" / "families" / f"{page}.md").read_text(encoding="utf-8")
    for name, table in family_tables(page).items():
        assert f"<!-- {name} -->\n\n{table}\n\n<!-- /{name} -->" in text, "run tools/render_zoo.py"


def test_every_page_of_a_family_has_weights_and_all_weights_have_one():
    assert {path.stem for path in (ROOT / "docs" / "families").glob("*.md")} == {*family_pages(), "index"}
    assert sorted(name for names in family_pages().values() for name in names) == sorted(entries())


def test_the_readme_shows_one_of_each_kind_of_network():
    folders = {family.network.split(".")[2] for family in FAMILIES.values()}
    shown = [family_of(architecture_of(name)).network.split(".")[2] for name in BEST_KNOWN]
    assert sorted(shown) == sorted(folders)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_what_their_entry_says(name):
    entry, config = entries()[name], read_config(ASSETS / name)
    assert config.process.name == entry.process
    assert config.provenance.license == entry.license
    given = entry.sampling.model_fields_set
    assert config.sampling.model_dump(include=given) == entry.sampling.model_dump(include=given)
    assert sum(parameter.numel() for parameter in load_model(name).parameters()) == entry_counts(name).parameters


# As the authors' own code counts them.
PARAMETERS = {
    "dit_xl_2.in256_repa": 675_111_184, "dit_xl_2.in256_repae_sdvae": 675_111_184,
    "dit_xl_1.in256_repae_invae": 675_148_064, "dit_xl_1.in256_repae_vavae": 675_148_064,
    "dit_xl_1.in256_e2e_vavae": 675_148_064,
    "lightningdit_xl_1.in256_800ep": 675_256_736, "lightningdit_xl_1.in256_64ep": 675_256_736,
    "jit_b_16.in256": 131_320_320, "jit_l_16.in256": 459_139_808, "jit_h_16.in256": 952_842_048,
    "jit_b_32.in512": 133_387_008, "jit_l_32.in512": 461_796_320, "jit_h_32.in512": 956_383_296,
    "meanflow_b_4.in256": 131_214_400, "meanflow_b_2.in256": 131_288_080,
    "meanflow_l_2.in256": 459_399_184, "meanflow_xl_2.in256": 676_735_504,
    "imf_b_2.in256": 88_948_256, "imf_m_2.in256": 173_921_312,
    "imf_l_2.in256": 409_071_648, "imf_xl_2.in256": 610_433_056,
    "pmf_b_16.in256": 118_234_240, "pmf_l_16.in256": 410_320_768, "pmf_h_16.in256": 955_508_992,
    "pmf_b_32.in512": 120_300_928, "pmf_l_32.in512": 412_977_280, "pmf_h_32.in512": 959_050_240,
    "mdt_xl_2.in256": 699_778_144, "mdtv2_xl_2.in256": 742_263_904,
    "uvit_m_4.in64": 130_940_292, "uvit_l_4.in64": 286_827_652,
    "uvit_l_2.in256": 286_763_172, "uvit_h_2.in256": 500_832_016,
    "uvit_l_4.in512": 286_861_524, "uvit_h_4.in512": 500_942_656,
    "uvit_s_2.cifar10": 44_255_328, "uvit_s_4.celeba64": 44_292_228,
    "ddt_xl_2.in256": 674_646_352, "ddt_xl_2.in512": 674_646_352,
    "ditdh_xl_1.in256": 838_675_796, "ditdh_s_1.in256_ep14": 196_455_764,
    "ditdh_xl_1.in512": 839_560_532, "ditdh_s_1.in512_ep20": 196_750_676,
    "maskdit_xl_2.in256": 730_541_200, "maskdit_xl_2.in512": 731_819_152,
}  # fmt: skip


def test_networks_have_the_parameters_that_their_authors_count():
    assert {name: entry_counts(name).parameters for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("name", entries())
def test_process_and_settings_of_an_entry_fit_each_other(name):
    entry, config = entries()[name], describe_entry(name)
    arguments, process = config.model.arguments, create_process(config.process)
    assert (arguments.num_classes == 1000) == (entry.labels == "imagenet")
    if config.latents is not None:
        assert {entry.image_size // config.latents.downscale} == set(arguments.input_size)
    for sampling in filter(None, (entry.sampling, entry.published)):
        grid, solver = create_grid(process, sampling), create_solver(sampling.solver)
        x = torch.ones(1, arguments.in_channels, 2, 2)
        variance = torch.zeros_like(x) if getattr(config.process, "learn_sigma", False) else None
        for k in (0, grid.num_steps - 1):
            step = solver(x, k, grid, lambda x, t, v=variance: Denoised(x, x, v), lambda k, x=x: x, None)
            assert step.x.isfinite().all()
        takes_guidance = condition_names_of(name) == () or "guidance" in condition_names_of(name)
        assert sampling.guidance == 1 or (arguments.null_class is not None and takes_guidance)


def condition_names_of(name):
    return tuple(network_of(name).condition_names)


@cache
def network_of(name):
    with torch.device("meta"):
        return build(architecture_of(name), entry_arguments(name))


@pytest.mark.parametrize("name", [name for name in entries() if name not in SHIPPED])
def test_published_names_tell_the_process_of_an_entry(name):
    """A file with the names of the entry's network is read as the entry says, or leaves the process to be named."""
    family, entry = family_of(architecture_of(name)), entries()[name]
    named = [layout for layout in family.layouts if entry.process in [known.name for known in layout.trained_for]]
    found, layout = recognise(from_native(network_of(name).state_dict(), named[0]))
    assert found is family
    assert layout is named[0]


def test_a_guide_is_an_entry_of_the_same_latents():
    guided = {name: entry.published.guide for name, entry in entries().items() if entry.published}
    guided = {name: guide for name, guide in guided.items() if guide is not None}
    assert guided
    for name, guide in guided.items():
        ours, theirs = describe_entry(name), describe_entry(guide)
        assert ours.process == theirs.process
        for field in ("input_size", "in_channels", "num_classes"):
            assert getattr(ours.model.arguments, field) == getattr(theirs.model.arguments, field)
        assert entries()[name].vae == entries()[guide].vae


def shifted(t):
    return 0.3 * t / (1 + (0.3 - 1) * t)


# Each family's rule in its own time, at the times at which its sampler calls the network.
OWN_RULES = {
    "lightningdit_xl_1.in256_800ep": [shifted(k / 249) >= 0.125 for k in range(249)],
    "lightningdit_xl_1.in256_64ep": [shifted(k / 249) >= 0.1 for k in range(249)],
    "jit_b_16.in256": [np.float32(0.1) < np.float32(k / 50) < 1 for k in range(50)],
    "ddt_xl_2.in256": [0.3 < 0.96 * k / 249 < 1 for k in range(250)],
    "dit_xl_2.in256_repa": [0 <= 1 - 0.96 * k / 249 <= 0.7 for k in range(250)],
    "dit_xl_1.in256_e2e_vavae": [0 <= 1 - 0.96 * k / 249 <= 0.73 for k in range(250)],
}


@pytest.mark.parametrize("name", OWN_RULES)
def test_the_published_interval_guides_the_steps_that_the_authors_guide(name):
    published = entries()[name].published
    grid = create_grid(create_process(describe_entry(name).process), published)
    guidance = guidance_of(network_of(name), published, grid, 3)
    assert [guidance.scale_at(float(t)) != 1 for t in grid.t[:-1]] == OWN_RULES[name]


def test_models_pretrained_lists_every_entry(capsys):
    assert main(["models", "--pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(entries())
    assert main(["models", "dit_xl_2.in*", "--pretrained"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8


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
        ("unknown", "No license"),
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
            return source, parse_classes(arguments["classes"], imagenet_classes()) if "classes" in arguments else []

        return call

    monkeypatch.setattr(dit, "load_pipeline", load)
    for name in set(entries()) - set(SHIPPED):
        source, classes = snippet(name)
        by_hand, apart = bool(entries()[name].sources[0].page), entries()[name].vae_kept == "apart"
        assert source == ("model" if apart else name)
        assert (f"\ndit pull {name} --from FILE  " in entry_card(name)) == by_hand
        assert (f"\ndit convert {name} model --vae vae\n" in entry_card(name)) == apart
        assert (len(set(classes)) == len(classes) > 0) == (entry_arguments(name).num_classes > 0)
