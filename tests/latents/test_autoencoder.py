import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dit.errors import ConfigError, DitError
from dit.latents.autoencoder import find_autoencoder, load_autoencoder
from tests.hub_double import flip_last_byte_of_weights
from tests.latents.conftest import small_kl

WEIGHTS = "diffusion_pytorch_model.safetensors"


def edit_weights(folder: str, edit) -> None:
    tensors = load_file(Path(folder, WEIGHTS))
    edit(tensors)
    save_file(tensors, Path(folder, WEIGHTS))


def test_embedded():
    folder = find_autoencoder("mnist")
    assert (folder.path / "README.md").is_file()
    assert not folder.is_local
    loaded = load_autoencoder(folder)
    assert sum(parameter.numel() for parameter in loaded.parameters()) == 409_285
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_autoencoder_of_a_pipeline_is_found(saved, tmp_path):
    saved(small_kl(), "pipeline/vae")
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    assert find_autoencoder(str(tmp_path / "pipeline")).path == tmp_path / "pipeline" / "vae"


def test_fingerprint_follows_weights_and_architecture_alone(saved, tmp_path):
    folder = saved(small_kl(scaling_factor=0.5))
    first = find_autoencoder(folder).fingerprint()
    shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(
        json.dumps(config | {"scaling_factor": 2.0, "_diffusers_version": "x"})
    )
    assert find_autoencoder(str(tmp_path / "copy")).fingerprint() == first
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | {"act_fn": "gelu"}))
    assert find_autoencoder(str(tmp_path / "copy")).fingerprint() != first
    edit_weights(folder, lambda tensors: tensors["encoder.conv_in.bias"].add_(1))
    assert find_autoencoder(folder).fingerprint() != first


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda tensors: tensors.pop("encoder.conv_in.weight"), "1 tensors are missing: encoder.conv_in.weight"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "1 tensors are unexpected: extra"),
        (lambda tensors: tensors.update({"encoder.conv_in.bias": torch.ones(7)}), "conv_in.bias"),
        (lambda tensors: tensors["encoder.conv_in.bias"].fill_(torch.nan), "NaN or infinity in encoder.conv_in.bias"),
    ],
)
def test_wrong_weights_are_refused(saved, edit, problem):
    """diffusers itself logs the first two and goes on with random numbers."""
    folder = saved(small_kl())
    edit_weights(folder, edit)
    with pytest.raises(DitError, match=re.escape(problem)) as caught:
        load_autoencoder(find_autoencoder(folder))
    assert folder in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_weights_are_refused(saved):
    folder = saved(small_kl())
    path = Path(folder, WEIGHTS)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DitError, match="can't be loaded"):
        load_autoencoder(find_autoencoder(folder))
    path.unlink()
    with pytest.raises(DitError, match="can't be loaded"):
        load_autoencoder(find_autoencoder(folder))


class Sentinel:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_pickled_weights_are_not_opened(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path(saved(small_kl()))
    (folder / WEIGHTS).unlink()
    torch.save(Sentinel(), folder / "diffusion_pytorch_model.bin")
    with pytest.raises(DitError, match="can't be loaded"):
        load_autoencoder(find_autoencoder(str(folder)))
    torch.save(Sentinel(), folder / WEIGHTS)
    with pytest.raises(DitError, match="can't be loaded"):
        load_autoencoder(find_autoencoder(str(folder)))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"_class_name": "AutoencoderLK"}, "found _class_name 'AutoencoderLK'. Did you mean 'AutoencoderKL'"),
        ({"_class_name": "UNet2DModel"}, "found _class_name 'UNet2DModel'"),
        ({}, "expected a diffusers autoencoder with _class_name, found none"),
    ],
)
def test_other_classes_are_refused(tmp_path, config, problem):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((ConfigError, DitError), match=re.escape(problem)):
        load_autoencoder(find_autoencoder(str(tmp_path)))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("org/name@v1", "latents.vae 'org/name@v1': there is no such folder; on the Hub: org/name: it"),
        ("mnits", "found 'mnits'. Did you mean 'mnist'?"),
        ("../vae/mnist", "found '../vae/mnist'"),
        ("tests", "found no config.json in tests"),
    ],
)
def test_unknown_sources(source, problem):
    with pytest.raises((ConfigError, DitError), match=re.escape(problem)):
        find_autoencoder(source)


def test_an_autoencoder_of_the_hub_is_pinned_to_its_commit(hub, saved):
    folder = Path(saved(small_kl()))
    files = {f"vae/{path.name}": path.read_bytes() for path in folder.iterdir()}
    hub.add("org/name", files | {"vae/diffusion_pytorch_model.bin": b"x"})
    found = find_autoencoder("org/name@main")
    assert (found.source, found.revision, found.is_local) == (
        "org/name",
        hub.repositories["org/name"].refs["main"],
        False,
    )
    assert sorted(path.name for path in found.path.iterdir()) == ["config.json", WEIGHTS]
    load_autoencoder(found)


def test_a_damaged_autoencoder_is_fetched_again_and_then_refused(hub, saved):
    path = Path(saved(small_kl())) / WEIGHTS
    hub.add("org/name", {"config.json": (path.parent / "config.json").read_bytes(), WEIGHTS: path.read_bytes()})
    damage = flip_last_byte_of_weights(times=1)
    hub.faults.append(damage)
    assert find_autoencoder("org/name").path.joinpath(WEIGHTS).read_bytes() == path.read_bytes()
    for blob in find_autoencoder("org/name").path.glob("*"):
        blob.resolve().unlink()
    hub.faults[:] = [flip_last_byte_of_weights(times=2)]
    with pytest.raises(DitError, match=r"^latents\.vae 'org/name': .*was damaged on the way, twice"):
        find_autoencoder("org/name")
