"""Entries of the zoo: weights fetched by hand, places that are dead, licenses, and the published setting on its way."""

import json
import shutil

import numpy as np
import pytest
import torch

from dit.cli import main
from dit.errors import ConfigError, DitError
from dit.files import ASSETS, cache_folder, sha256
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from dit.validation import validate
from dit.zoo.entries import Entry, entries
from dit.zoo.folder.config import read_config
from dit.zoo.hub import pull as module
from dit.zoo.pipeline import load_pipeline
from tests.command import fails, runs
from tests.zoo.conftest import TINY, equal, random_model

NAME, GUIDE = "dit.tiny", "dit.tiny_weak"
SOURCE = {"layout": "original", "page": "https://drive.example/folder", "file": "tiny.pt"}
FIELDS = {
    "title": "Tiny",
    "data": "mnist",
    "image_size": 32,
    "arguments": TINY,
    "license": "unknown",
    "process": "repa",
    "vae": "mnist",
    "sampling": {"solver": "euler", "steps": 2},
    "published": {
        "solver": {"name": "euler_maruyama", "diffusion_scale": 2},
        "steps": 3,
        "grid": {"name": "uniform", "last_step": 0.04},
        "guidance": 1.5,
        "guidance_interval": [0.0, 0.7],
        "labels": "balanced",
        "rounding": "down",
    },
    "sources": [SOURCE],
    "reported": [{"metric": "FID-50K", "value": 1.5, "setting": "3 steps"}],
}


@pytest.fixture
def entry(monkeypatch, tmp_path):
    """Add entries to the zoo, beside an empty cache."""
    monkeypatch.setenv("DIT_CACHE", str(tmp_path / "cache"))

    def put(name=NAME, **changes):
        monkeypatch.setitem(entries(), name, validate(Entry, FIELDS | changes, origin=name))

    put()
    return put


def weights_of(tmp_path, seed=1, **arguments):
    """A file as the authors would publish it."""
    path = tmp_path / f"{seed}.pt"
    torch.save({"ema": random_model(seed=seed, **TINY | arguments).state_dict()}, path)
    return path


@pytest.fixture
def taken(entry, tmp_path, capsys):
    """The file of an entry that was given by hand."""
    path = weights_of(tmp_path)
    runs(capsys, "pull", NAME, "--from", path)
    return path


def test_weights_fetched_by_hand_make_the_name_known_here(entry, tmp_path, capsys):
    for command in (["pull", NAME], ["sample", NAME]):
        assert fails(capsys, *command, code=1) == (
            f"{NAME}: its weights have to be fetched by hand: tiny.pt from https://drive.example/folder; then go on "
            f"with `dit pull {NAME} --from FILE`"
        )
    path = weights_of(tmp_path)
    assert main(["pull", NAME, "--from", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{cache_folder('zoo') / NAME}\n"
    assert (
        printed.err == f"dit: {NAME}: No license of these weights was found: ask their authors before you use them.\n"
    )
    assert equal(load_pipeline(NAME).model.state_dict(), random_model(seed=1, **TINY).state_dict())
    provenance = read_config(cache_folder("zoo") / NAME).provenance
    assert (provenance.name, provenance.sha256) == (NAME, sha256(path))
    runs(capsys, "pull", NAME, tmp_path / "folder", "--from", path)
    assert equal(load_pipeline(tmp_path / "folder").model.state_dict(), random_model(seed=1, **TINY).state_dict())


def test_the_license_is_told_by_a_pull_and_not_by_what_uses_it_again(taken, tmp_path, capsys):
    out = str(tmp_path / "x.png")
    for command, told in ((["pull", NAME], True), (["sample", NAME, "--classes", "1", "--out", out], False)):
        assert main(command) == 0
        assert ("No license of these weights" in capsys.readouterr().err) == told


def test_only_the_files_of_an_entry_are_taken(entry, tmp_path, capsys):
    entry(sources=[SOURCE | {"sha256": "0" * 64}])
    path = weights_of(tmp_path)
    words = f"{path}: expected SHA-256 {'0' * 64}, found {sha256(path)}: another file, or a damaged one"
    assert fails(capsys, "pull", NAME, "--from", path, code=1).startswith(words)
    entry()
    torch.save({"ema": random_model("meanflow_ti_2").state_dict()}, tmp_path / "others.pt")
    assert fails(capsys, "pull", NAME, "--from", tmp_path / "others.pt", code=1) == (
        f"{NAME}: expected its weights, found others, which do not fit its description ({tmp_path}/others.pt: "
        "--model.name: expected a meanflow, as the tensors tell, found dit)"
    )
    other = weights_of(tmp_path, seed=2, depth=3)
    assert "--model.depth: expected 3, as the tensors" in fails(capsys, "pull", NAME, "--from", other, code=1)
    assert not cache_folder("zoo").exists() or not [*cache_folder("zoo").iterdir()]
    for name, words in {
        NAME: "--from: expected a file, found none at nothing.pt",
        "org/name": "--from: expected a zoo name beside it, found 'org/name'",
        "dit_ti_2.mnist": "--from: expected it left out, for the weights of dit_ti_2.mnist are part of this package",
    }.items():
        assert fails(capsys, "pull", name, "--from", "nothing.pt").startswith(words)


def test_options_of_the_other_kind_of_source_are_refused(capsys):
    for command in (["pull", "dit_ti_2.mnist", "--revision", "v1"], ["pull", "org/name", "--layout", "diffusers"]):
        assert "expected it left out, for " in fails(capsys, *command)
    with pytest.raises(ConfigError, match=r"^revision: expected it left out, "):
        load_pipeline("dit_ti_2.mnist", revision="v1")


def test_another_file_does_not_replace_what_is_there(taken, tmp_path, capsys):
    runs(capsys, "pull", NAME, "--from", taken)
    words = f"{NAME}: it is there already, from another file; remove {cache_folder('zoo') / NAME} to take "
    assert fails(capsys, "pull", NAME, "--from", weights_of(tmp_path, seed=2)).startswith(words)


def test_a_dead_address_is_told_with_the_other_places(entry, tmp_path, capsys, monkeypatch):
    dead = {"layout": "original", "address": "https://gone.example/tiny.pt", "dead": "dead by issue 14"}
    entry(sources=[dead, {"layout": "diffusers", "repository": "org/tiny"}])

    def refuse(address, folder, digest):
        raise DitError(f"{address}: it can't be downloaded")

    monkeypatch.setattr(module, "download_address", refuse)
    assert fails(capsys, "sample", NAME, code=1) == (
        "https://gone.example/tiny.pt: it can't be downloaded (dead by issue 14); also at https://huggingface.co/org/tiny"
        f", by --layout diffusers; `dit pull {NAME} --from FILE` takes a file that was fetched by hand"
    )
    monkeypatch.setattr(module, "download_address", lambda *_: weights_of(tmp_path))
    assert main(["pull", NAME]) == 0
    words = f"{NAME}: it was still to be had from https://gone.example/tiny.pt (dead by issue 14); also at https://hug"
    assert words in capsys.readouterr().err


def test_the_published_setting_is_used_whole(entry, tmp_path, capsys):
    entry(published=FIELDS["published"] | {"guide": GUIDE})
    entry(GUIDE)
    for name, seed in ((NAME, 1), (GUIDE, 2)):
        runs(capsys, "pull", name, "--from", weights_of(tmp_path, seed=seed))
    runs(capsys, "sample", NAME, "--published", "--num", 20, "--seed", 3, "--out", tmp_path / "x.npz")
    found = np.load(tmp_path / "x.npz")
    assert np.bincount(found["arr_1"]).tolist() == [2] * 10

    strong, weak = random_model(seed=1, **TINY), random_model(seed=2, **TINY)
    pipeline = load_pipeline(NAME)  # only for the process and the codec
    labels = torch.arange(20) % 10
    sampling = entries()[NAME].published.sampling
    latents = sample(strong, pipeline.process, labels, (4, 8, 8), sampling=sampling, seed=3, weaker=weak).latents
    pixels = pipeline.codec.autoencoder.decode(pipeline.codec.denormalise(latents))
    expected = (127.5 * pixels + 127.5).clamp(0, 255).floor().permute(0, 2, 3, 1).numpy()
    # Sums in another order move a pixel by 1e-5, past a level in one pixel of thousands; without any of the options
    # nearly all pixels differ, by the nearest rounding every second.
    assert (found["arr_0"] == expected).mean() > 0.99


def test_options_beside_the_published_setting_win(taken, tmp_path, capsys):
    command = ["sample", NAME, "--published", "--classes", "3", "--num", 2, "--out", tmp_path / "many"]
    options = ["--steps", 2, "--guidance", 2, "--guidance_interval", "0.1,0.5", "--rounding", "nearest"]
    runs(capsys, *command, *options)
    written = json.loads((tmp_path / "many" / "sampling.json").read_text())
    expected = FIELDS["published"] | {"steps": 2, "guidance": 2.0, "guidance_interval": [0.1, 0.5]}
    assert validate(SamplingConfig, written["sampling"], origin="") == validate(
        SamplingConfig, {key: expected[key] for key in expected if key not in ("labels", "rounding")}, origin=""
    )
    assert (written["rounding"], written["labels"]) == ("nearest", [3, 3])
    assert "rounding is nearest there and down now" in fails(capsys, *command, *options[:-2])
    words = "guide: expected a model of the same process, found another"
    assert fails(capsys, *command, *options, "--guide", "dit_ti_2.mnist_gaussian") == words


def test_the_published_autoencoder_decodes_with_the_models_own_normalisation(entry, tmp_path, capsys):
    other = shutil.copytree(ASSETS / "vae" / "mnist", tmp_path / "vae")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"scaling_factor": 7.0}))
    entry(published=FIELDS["published"] | {"vae": str(other)})
    runs(capsys, "pull", NAME, "--from", weights_of(tmp_path))
    usual, published = (load_pipeline(NAME, published=flag).codec for flag in (False, True))
    assert (usual.folder.source, published.folder.source) == ("mnist", str(other))
    assert torch.equal(usual.scale, published.scale)


@pytest.mark.parametrize("to", ["original", "diffusers"])
def test_the_published_setting_survives_conversion(to, entry, tmp_path, capsys):
    entry(process="gaussian", arguments=TINY | {"learn_sigma": True}, published={"solver": "ddpm", "steps": 4})
    runs(capsys, "pull", NAME, "--from", weights_of(tmp_path, learn_sigma=True))
    target = tmp_path / ("model.safetensors" if to == "original" else "pipeline")
    runs(capsys, "convert", NAME, target, "--to", to)
    runs(capsys, "convert", target, tmp_path / "back")
    card = (tmp_path / "back" / "README.md").read_text()
    assert "| published setting, `--published` | ddpm, 4 steps, no guidance |" in card
    assert "| FID-50K | 1.5 | 3 steps |" in card
    assert "No license of these weights was found" in card
    assert load_pipeline(tmp_path / "back", published=True).settings().steps == 4
    assert any(line.startswith("published setting") for line in runs(capsys, "info", tmp_path / "back"))


@pytest.mark.parametrize("name", ["dit_ti_2.mnist", NAME])
def test_where_nothing_is_published_that_is_said_before_a_download(name, entry, capsys):
    entry(published=None)
    assert fails(capsys, "sample", name, "--published") == (
        f"--published: expected weights with a published setting, found none of {name}; leave it out to sample by its "
        "defaults, or give --solver, --steps and --guidance"
    )
