"""Cards: what they say, and row H7 (hostile names come out literally)."""

import re

import pytest
import yaml

from dit.diffusion.config import GaussianConfig
from dit.errors import DitError
from dit.files import write_json
from dit.latents.codec import load_codec
from dit.sampling.config import SamplingConfig
from dit.zoo.cards.card import as_code, as_text, render_card
from dit.zoo.export import export
from dit.zoo.folder.config import FolderConfig, Provenance, read_config, write_config

EVALUATION = {
    "num": 1000,
    "seed": 0,
    "features": "mnist",
    "features_sha256": "ab" * 32,
    "frechet_distance": 1.234567,
    "frechet_standard_error": 0.0123,
    "frechet_floor": 0.5,
    "accuracy": 0.953,
    "accuracy_standard_error": 0.0067,
    "sampling": {"solver": "heun", "steps": 20, "guidance": 1.5, "guidance_channels": "all"},
    "reference": {"num": 1000, "sha256": "cd" * 32},
    "versions": {"dit": "0.1.0"},
}


@pytest.fixture
def exported(tiny_run, tmp_path):
    run, _ = tiny_run
    return export(run, tmp_path / "out", samples=False)


def metadata_of(card):
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


def change(folder, **changes):
    config = read_config(folder)
    write_config(folder, FolderConfig(**{name: getattr(config, name) for name in FolderConfig.model_fields} | changes))


def test_the_metadata_is_what_the_hub_reads(exported):
    write_json(exported / "eval.json", EVALUATION)
    facts = {"license": "other", "license_name": "mine", "license_link": "https://x.org", "base_model": "org/base"}
    change(exported, provenance=read_config(exported).provenance.updated(**facts))
    found = metadata_of(render_card(exported, title="digits"))
    assert found["library_name"] == "dit"
    assert found["pipeline_tag"] == "unconditional-image-generation"
    assert found["tags"] == ["dit", "diffusion-transformer", "flow", "class-conditional"]
    assert facts.items() <= found.items()
    assert found["datasets"] == ["ylecun/mnist"]
    index = found["model-index"][0]
    assert index["name"] == "digits"
    metrics = {metric["type"]: metric for metric in index["results"][0]["metrics"]}
    assert metrics["accuracy"]["value"] == 0.953
    assert metrics["frechet_distance"]["value"] == 1.234567
    assert metrics["accuracy"]["args"].items() >= {"standard_error": 0.0067, "num_samples": 1000}.items()
    assert metrics["frechet_distance"]["args"] == {
        "standard_error": 0.0123,
        "floor": 0.5,
        "num_samples": 1000,
        "protocol": "mnist features, 1,000 held-out images",
        "solver": "heun",
        "steps": 20,
        "guidance": 1.5,
        "guidance_channels": "all",
        "vae": "mnist",
        "label_balance": "class i % K at position i",
        "seed": 0,
        "reference_sha256": "cd" * 32,
        "features_sha256": "ab" * 32,
        "evaluator": "dit 0.1.0",
    }


def test_the_body_says_what_a_reader_asks(exported):
    write_json(exported / "eval.json", EVALUATION)
    card = render_card(exported)
    for phrase in (
        "30,880",
        "flow matching",
        "| images seen | 112 |",
        "dit 0.1.0+abc",
        "| class accuracy | 0.9530 ± 0.0067 | - | 1,000 | mnist classifier |",
        "| Frechet distance (mnist) | 1.235 ± 0.012 | 0.5 | 1,000 | mnist features, 1,000 held-out images |\n",
        "Sampled with solver heun, steps 20, guidance 1.5,",
        "recipe.yaml",
    ):
        assert phrase in card
    assert re.search(r"\| model\.safetensors \| \d+ \| `[0-9a-f]{64}` \|", card)
    assert "samples.png" not in card
    (exported / "samples.png").write_bytes(b"x")
    assert "![Samples, a row per class](samples.png)" in render_card(exported)


def test_figures_of_a_protocol_are_shown_with_it(exported):
    fid = {"value": 2.2713, "standard_error": 0.0137, "floor": 1.1}
    made = {"sampling": {"solver": {"name": "ddpm"}, "steps": 250, "guidance": 1.5}, "seed": 3, "order": "drawn"}
    report = {"protocol": "adm", "num": 50000, "figures": {"fid": fid}, "samples": {"made": made}}
    report |= {"reference": {"name": "ref.npz", "sha256": "ab"}, "networks": {"inception": {"weights_sha256": "cd"}}}
    write_json(exported / "eval.json", report)
    card = render_card(exported)
    assert "| FID | 2.271 ± 0.014 | 1.1 | 50,000 | protocol adm against ref.npz |" in card
    assert (
        "Sampled with solver ddpm, steps 250, guidance 1.5, vae mnist, label_balance drawn, seed 3, evaluator" in card
    )
    (metric,) = metadata_of(card)["model-index"][0]["results"][0]["metrics"]
    assert (metric["type"], metric["value"]) == ("fid", 2.2713)
    assert metric["args"].items() >= {
        "standard_error": 0.0137, "floor": 1.1, "num_samples": 50000, "protocol": "protocol adm against ref.npz",
        "steps": 250, "seed": 3, "reference_sha256": "ab", "features_sha256": "cd",
    }.items()  # fmt: skip


def test_a_model_without_figures_says_so(exported):
    assert "No figures were measured." in render_card(exported)
    assert "model-index" not in metadata_of(render_card(exported))


def test_damaged_figures_are_named(exported):
    write_json(exported / "eval.json", EVALUATION | {"accuracy": "high"})
    with pytest.raises(DitError, match=r"eval\.json: accuracy: expected"):
        render_card(exported)


def test_pixels_are_no_autoencoder(exported):
    change(exported, latents=load_codec("pixels").describe())
    card = render_card(exported)
    assert "by flow matching on the pixels. The weights" in card
    assert "| autoencoder | none |" in card


def test_a_missing_autoencoder_is_converted_before_the_use(exported):
    change(exported, latents=None, provenance=Provenance(autoencoder="org/vae"))
    card = render_card(exported, source="it's here")
    assert "# its autoencoder, of org/vae: see" in card
    assert "dit convert 'it'\"'\"'s here' model --vae vae\n```\n" in card
    assert 'load_pipeline("model")' in card


def test_a_gaussian_process_is_described(exported):
    change(exported, process=GaussianConfig(), sampling=SamplingConfig(solver="ddim", guidance_channels=3))
    assert "Gaussian diffusion, 1000 linear betas, learned variance" in render_card(exported)


def test_a_path_of_this_machine_does_not_leave_it(exported):
    change(exported, provenance=Provenance(data="/home/someone/secret/flowers"))
    card = render_card(exported)
    assert "secret" not in card
    assert "trained on flowers" in card
    assert "datasets" not in metadata_of(card)


HOSTILE = ["{{7*7}}", "---", "<script>alert(1)</script>", "{% raw %}", "a`b``c", "x\n---\ny", "| cell |", "'\":"]


def test_h7_hostile_class_names_come_out_literally(exported):
    names, expected = [*HOSTILE, "7", "8"], metadata_of(render_card(exported))
    change(exported, id2label={str(i): name for i, name in enumerate(names)})
    card = render_card(exported)
    for i, name in enumerate(names):
        assert f"{i} {as_code(name)}" in card
    assert "49" not in card.split("Classes are asked")[1].split("\n")[0]
    assert metadata_of(card) == expected


@pytest.mark.parametrize("title", HOSTILE)
def test_h7_hostile_titles_come_out_literally(exported, title):
    card = render_card(exported, title=title)
    assert metadata_of(card)["model_name"] == " ".join(title.split())
    assert f"\n# {as_text(title)}\n" in card
    assert "<script>" not in card.split("---\n", 2)[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b c", "a_b c"),
        ("_x_ *y*", r"\_x\_ \*y\*"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("a\n# b", "a # b"),
        ("[x](y)|", r"\[x\](y)\|"),
    ],
)
def test_text_is_escaped(text, expected):
    assert as_text(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("x", "`x`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("a\nb", "`a b`")])
def test_code_is_fenced(text, expected):
    assert as_code(text) == expected
