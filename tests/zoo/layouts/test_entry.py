"""Weights as the zoo's entries say: REPA-E's autoencoder inside the file, VA-VAE's apart, and what is said of it."""

import pytest
import torch

from dit.diffusion.config import FlowConfig
from dit.errors import ConfigError, DitError
from dit.validation import validate
from dit.zoo.convert import convert
from dit.zoo.described import describe_entry
from dit.zoo.entries import Entry, entries
from dit.zoo.layouts import ldm_autoencoder
from dit.zoo.layouts.entry import read_entry
from dit.zoo.layouts.native import write_native
from dit.zoo.load import load_model
from dit.zoo.pipeline import load_pipeline
from tests.goldens import assert_close
from tests.zoo.conftest import equal, random_model
from tests.zoo.layouts.test_ldm_autoencoder import MEAN, STD, golden_state, joint_checkpoint

NAME = "dit_ti_2.tiny"
ARGUMENTS = {"input_size": 4, "in_channels": 5, "num_classes": 3, "learn_sigma": False}
FIELDS = {
    "title": "Tiny",
    "data": "imagenet-1k",
    "image_size": 8,
    "arguments": ARGUMENTS,
    "license": "unknown",
    "process": "repa",
    "vae": "someone/tiny",
    "sampling": {"solver": "euler", "steps": 2},
    "published": {"solver": "euler", "steps": 3, "labels": "balanced", "rounding": "down"},
    "sources": [{"layout": "original", "address": "https://example.com/tiny.pt"}],
}
PROJECTOR = {"ap_head.linear1.weight": torch.ones(2, 2)}


@pytest.fixture
def entry(monkeypatch):
    monkeypatch.setattr(ldm_autoencoder, "NUM_GROUPS", 8)  # of the golden

    def put(**changes):
        monkeypatch.setitem(entries(), NAME, validate(Entry, FIELDS | changes, origin=NAME))

    return put


def read(path, tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "native").mkdir()
    model = read_entry(NAME, path, tmp_path / "scratch")
    write_native(model, tmp_path / "native")
    return model, tmp_path / "native"


def test_an_autoencoder_inside_the_file_comes_along_with_its_statistics(tmp_path, entry):
    entry(vae_kept="inside")
    network = random_model(**ARGUMENTS).state_dict()
    joint_checkpoint(tmp_path / "joint.pt", golden_state())
    content = torch.load(tmp_path / "joint.pt", weights_only=False)
    projectors = {"projectors.0.0.weight": torch.ones(2, 2), "bn.num_batches_tracked": torch.tensor(7)}
    statistics = {"bn.running_mean": MEAN, "bn.running_var": STD.square()}
    torch.save(content | {"ema": network | projectors | statistics}, tmp_path / "joint.pt")

    model, folder = read(tmp_path / "joint.pt", tmp_path)
    assert model.config.process == FlowConfig(time_scale=1)
    assert model.config.published == entries()[NAME].published
    assert equal(load_model(folder).state_dict(), network)
    pipeline = load_pipeline(folder)
    assert_close(pipeline.codec.denormalise(torch.ones(1, 5, 1, 1)).flatten(), MEAN + STD, 1e-6)
    assert [image.size for image in pipeline([2])] == [(8, 8)]


def test_an_autoencoder_that_is_apart_is_named_and_can_be_given(tmp_path, entry, capsys):
    entry(vae_kept="apart")
    network = random_model(**ARGUMENTS).state_dict()
    torch.save({"ema": network}, tmp_path / "weights.pt")
    _, folder = read(tmp_path / "weights.pt", tmp_path)
    assert f"{NAME}: its autoencoder someone/tiny was not fetched, so no images" in capsys.readouterr().err
    assert describe_entry(NAME).latents is None
    assert describe_entry(NAME).provenance.autoencoder == "someone/tiny"
    with pytest.raises(DitError, match="no latents, so nothing can be decoded; give it its autoencoder, someone/tiny:"):
        load_pipeline(folder)

    torch.save(golden_state(), tmp_path / "vae.pt")
    torch.save({"mean": MEAN, "std": STD}, tmp_path / "stats.pt")
    convert(tmp_path / "vae.pt", tmp_path / "vae", options=ldm_autoencoder.ReadOptions(stats=tmp_path / "stats.pt"))
    given = ldm_autoencoder.ReadOptions(vae=str(tmp_path / "vae"))
    convert(folder, tmp_path / "whole", options=given)
    pipeline = load_pipeline(tmp_path / "whole")
    assert equal(pipeline.model.state_dict(), network)
    assert pipeline.config.provenance.autoencoder is None
    assert [image.size for image in pipeline([2])] == [(8, 8)]
    with pytest.raises(ConfigError, match="--vae: expected it left out"):
        convert(tmp_path / "whole", tmp_path / "again", options=given)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"ema": state | PROJECTOR}])
def test_weights_with_sras_projector_and_without_are_read_as_repas(tmp_path, entry, wrap):
    entry(vae="mnist", arguments=ARGUMENTS | {"in_channels": 4}, latents_scale=0.25)
    network = random_model(**ARGUMENTS | {"in_channels": 4}).state_dict()
    torch.save(wrap(network), tmp_path / "weights.pt")
    model, folder = read(tmp_path / "weights.pt", tmp_path)
    assert model.config.process == describe_entry(NAME).process == FlowConfig(time_scale=1)
    assert equal(load_model(folder).state_dict(), network)
    assert model.config.latents == describe_entry(NAME).latents
    assert set(model.config.latents.scale) == {0.25}
    notices = convert(folder, tmp_path / "out.pt", to="original")
    assert any("to read it takes --process repa" in notice for notice in notices)
    assert not any("without loss" in notice for notice in notices)


def test_the_weights_of_another_network_are_refused(tmp_path, entry):
    entry(arguments=ARGUMENTS | {"in_channels": 4})
    torch.save({"ema": random_model(**ARGUMENTS).state_dict()}, tmp_path / "weights.pt")
    with pytest.raises(DitError, match=f"^{NAME}: expected its weights, found others, .*in_channels: expected 5"):
        read(tmp_path / "weights.pt", tmp_path)
