"""Latents as a data set on the Hub's double: what is published, and that a training finds it there."""

import json

import pytest
import torch
import yaml

from dit.cli import main
from dit.data.config import DataConfig
from dit.errors import ConfigError, DitError
from dit.latents.config import LatentsConfig
from dit.latents.stored import open_stored
from dit.zoo.hub.push_latents import is_latents, push_latents
from tests.command import fails
from tests.hub_double import FILTERED, TOKEN
from tests.latents.caches import random_moments, write_cache, write_splits

NAME = "someone/photos-latents"
VAE = "a" * 64
TRAIN, VAL = (f"{split}-{'a' * 24}" for split in ("train", "val"))
pytestmark = pytest.mark.filterwarnings(FILTERED)


@pytest.fixture
def folder(tmp_path):
    return write_splits(tmp_path / "out", VAE, vae_name="stabilityai/sd-vae-ft-ema")


def published(hub, revision="main"):
    repository = hub.repositories[NAME]
    return {path: file.content for path, file in repository.commits[repository.refs[revision]].items()}


def test_what_is_pushed_can_be_trained_on(hub, folder, tmp_path):
    (folder / "notes.txt").write_text("x")
    (folder / ".train.lock").touch()
    pushed = push_latents(folder, NAME, tag="v1", license="cc-by-4.0")
    assert pushed.left_out == ["notes.txt"]
    parts = [f"{TRAIN}/part-0000{number}.safetensors" for number in range(3)]
    parts += [f"{VAL}/part-0000{number}.safetensors" for number in range(2)]
    expected = {"README.md", f"{TRAIN}/index.json", f"{VAL}/index.json", *parts}
    assert set(pushed.files) == set(published(hub)) - {".gitattributes"} == expected
    assert all(published(hub)[path] == (folder / path).read_bytes() for path in expected - {"README.md"})
    assert hub.repositories[NAME].refs["v1"] == hub.repositories[NAME].refs["main"]
    assert len(hub.repositories[NAME].commits) == 2  # the Hub's own, and ours

    address = f"hf://datasets/{NAME}"
    latents = LatentsConfig(cache=str(tmp_path / "copies"))
    remote, local = (open_stored(DataConfig(source=source, image_size=8), latents) for source in (address, str(folder)))
    for ours, theirs in ((local.train, remote.train), (local.val, remote.val)):
        assert ours.fingerprint == theirs.fingerprint
        assert all(map(torch.equal, ours.get(range(5)), theirs.get(range(5))))


def test_the_card_says_what_there_is_and_how_to_train(hub, folder):
    push_latents(folder, NAME, license="cc-by-4.0")
    text = published(hub)["README.md"].decode()
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["size_categories"] == "n<1K"
    assert "latents" in metadata["tags"]
    for phrase in (
        "# photos-latents",
        "Latents of the images of photos, made once by the autoencoder stabilityai/sd-vae-ft-ema",
        "| images, train | 11 |\n| images, val | 5 |\n| classes | 3 |",
        "| a latent | 4 x 4 x 4 |\n| stored | mean and log-variance, float32, of the mirrored image too |",
        f"dit train RECIPE --data.source hf://datasets/{NAME} --data.shuffle shards --data.image_size 8 \\\n"
        "  --latents.vae stabilityai/sd-vae-ft-ema --evaluation.features null",
        "cc-by-4.0, as named by who published them",
    ):
        assert phrase in text, phrase


def test_a_license_that_nobody_named_is_said_to_be_unknown(hub, folder):
    text = push_latents(folder, NAME, dry_run=True).card
    assert yaml.safe_load(text.split("---")[1])["license"] == "unknown"
    assert "The license is unknown: whoever published these latents named none." in text
    assert hub.requests == []
    with pytest.raises(
        DitError, match=r"--license: expected an identifier of the Hub, found 'cc-by'\. Did you mean 'odc"
    ):
        push_latents(folder, NAME, license="cc-by")


def test_the_cache_of_one_split_lies_at_the_top(hub, folder, tmp_path):
    pushed = push_latents(folder / TRAIN, NAME)
    assert {"index.json", "part-00000.safetensors"} <= set(pushed.files)
    latents = LatentsConfig(cache=str(tmp_path / "copies"))
    found = open_stored(DataConfig(source=f"hf://datasets/{NAME}", image_size=8), latents)
    assert (len(found.train), len(found.val)) == (11, 0)


def test_paths_of_this_machine_are_not_published(hub, tmp_path, capsys):
    place = tmp_path / "secret" / "photos"
    place.mkdir(parents=True)
    folder = write_cache(
        tmp_path / "cache", random_moments(6), channels=4, vae=VAE, source=f"{place} (train)",
        vae_name=str(tmp_path / "secret" / "my_vae"), skipped=[f"{place}/cats/1.jpg: expected an image, found nothing"],
    )  # fmt: skip
    (tmp_path / "secret" / "my_vae").mkdir()
    assert main(["push", str(folder), NAME]) == 0
    captured = capsys.readouterr()
    assert f"published by its last part alone: {place}" in captured.err
    assert not [path for path, content in published(hub).items() if str(tmp_path).encode() in content]
    index = json.loads(published(hub)["index.json"])
    assert (index["source"], index["vae"]) == ("photos (train)", "my_vae")
    assert index["skipped"] == ["1.jpg: expected an image, found nothing"]
    text = published(hub)["README.md"].decode()
    assert "--latents.vae VAE " in text
    assert "| left out | 1 bad images, listed in index.json |" in text
    assert str(place) in (folder / "index.json").read_text()


def test_damaged_latents_stay_here(hub, folder):
    part = folder / VAL / "part-00001.safetensors"
    whole = part.read_bytes()
    middle = len(whole) // 2
    part.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(DitError, match=r"part-00001\.safetensors: expected sha256 \w{64}, found \w{64}"):
        push_latents(folder, NAME)
    assert hub.requests == []


def test_h5_a_push_that_breaks_off_changes_nothing(hub, folder, monkeypatch):
    push_latents(folder / VAL, NAME)
    before = published(hub)
    monkeypatch.setenv("DIT_FAILPOINT", "push:before-commit:raise")
    with pytest.raises(RuntimeError):
        push_latents(folder, NAME)
    assert published(hub) == before


def test_h2_a_push_that_is_not_allowed_is_explained(hub, folder, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="expected an id of the Hub, org/name"):
        push_latents(folder, "photos")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "the Hub does not accept your token" in fails(capsys, "push", folder, NAME, code=1)
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token" in fails(capsys, "push", folder, NAME, code=1)


def test_h6_a_token_in_a_text_is_refused(hub, tmp_path):
    folder = write_cache(tmp_path / "x", random_moments(6), channels=4, vae=VAE, classes=(TOKEN, "b", "c"))
    with pytest.raises(DitError, match=r"index\.json: it holds your token for the Hub"):
        push_latents(folder, NAME)
    assert hub.requests == []


def test_other_folders_are_no_latents(folder, tmp_path):
    assert is_latents(folder)
    assert is_latents(folder / TRAIN)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors.index.json").touch()
    assert not is_latents(tmp_path / "model")
    assert not is_latents(tmp_path / "nothing")
