"""Training on latents that are there already: the same numbers in another format give the same losses."""

import json

import pytest
import torch

from dit.cli import main
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from tests.command import RECIPE, TINY, fails, runs
from tests.latents.caches import random_moments, write_cache
from tests.latents.conftest import small_kl, small_tiny
from tests.latents.peers.writers import edm_files, write_fast_dit, write_folder, write_lightningdit, write_zip

NUM = 24
LABELS = torch.arange(NUM) % 3
OPTIONS = [*TINY, "--train.max_steps", "3", "--data.image_size", "8", "--data.val_fraction", "0"]
OPTIONS += ["--evaluation.features", "null"]


def losses_on(source, vae, output, *options):
    argv = ["train", RECIPE, "--output", output, *OPTIONS, "--data.source", source, "--latents.vae", vae, *options]
    assert main([str(argument) for argument in argv]) == 0
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    return torch.tensor([row["loss"] for row in rows])


@pytest.fixture
def gaussian(tmp_path):
    small_kl(latent_channels=4).save_pretrained(tmp_path / "gaussian")
    return tmp_path / "gaussian"


@pytest.fixture
def deterministic(tmp_path):
    small_tiny().save_pretrained(tmp_path / "deterministic")
    return tmp_path / "deterministic"


def test_moments_of_others_give_the_losses_of_ours(tmp_path, gaussian):
    moments = random_moments(NUM, views=1)
    mean, log_var = moments[:, 0].chunk(2, dim=1)
    vae = load_codec(str(gaussian)).fingerprint
    cache = write_cache(tmp_path / "cache", moments, channels=4, vae=vae, labels=LABELS, classes=("0", "1", "2"))
    ours = losses_on(cache, gaussian, tmp_path / "ours")
    maskdit = write_zip(tmp_path / "maskdit.zip", edm_files(mean, log_var, LABELS, "img"))
    assert torch.equal(losses_on(maskdit, gaussian, tmp_path / "maskdit"), ours)
    repa = write_folder(tmp_path / "repa" / "vae-sd", edm_files(mean, (log_var / 2).exp(), LABELS)).parent
    # its deviations are exponentials of float32 that are rounded, made logarithms, and rounded again
    torch.testing.assert_close(losses_on(repa, gaussian, tmp_path / "repa_run"), ours, rtol=1e-5, atol=0)


def test_draws_of_others_give_the_losses_of_ours(tmp_path, deterministic):
    z, flipped = random_moments(NUM, 4, side=4).unbind(1)
    vae = load_codec(LatentsConfig(vae=str(deterministic), scale=1.0)).fingerprint
    moments = torch.stack([z, flipped], dim=1)
    cache = write_cache(tmp_path / "cache", moments, channels=4, vae=vae, labels=LABELS, downscale=4)
    flip = ["--data.flip", "true", "--latents.scale", "0.18215", "--data.image_size", "16"]
    ours = losses_on(cache, deterministic, tmp_path / "ours", *flip)
    lightning = write_lightningdit(tmp_path / "lightning", z, LABELS, flipped)
    assert torch.equal(losses_on(lightning, deterministic, tmp_path / "lightning_run", *flip), ours)
    still = losses_on(cache, deterministic, tmp_path / "still", *flip[2:])
    fast = write_fast_dit(tmp_path / "fast", z, LABELS)
    found = losses_on(fast, deterministic, tmp_path / "fast_run", *flip[2:])
    torch.testing.assert_close(found, still, rtol=1e-5, atol=0)  # z is rounded after it is scaled, and unscaled
    assert not torch.equal(still, ours)


def test_an_order_in_a_window_is_part_of_the_run(tmp_path, gaussian, capsys):
    vae = load_codec(str(gaussian)).fingerprint
    cache = write_cache(tmp_path / "cache", random_moments(NUM, views=1), channels=4, vae=vae, labels=LABELS)
    shards = ["--data.shuffle", "shards", "--data.shuffle_window", "2"]
    whole = losses_on(cache, gaussian, tmp_path / "whole", *shards)
    assert not torch.equal(losses_on(cache, gaussian, tmp_path / "full"), whole)
    copies = ["--latents.cache", tmp_path / "copies", "--latents.cache_limit", "0.1"]
    assert torch.equal(losses_on(f"file://{cache}", gaussian, tmp_path / "remote", *shards, *copies), whole)
    argv = ["train", RECIPE, "--output", tmp_path / "whole", "--resume", *OPTIONS, "--data.source", cache]
    argv += ["--latents.vae", gaussian, "--train.max_steps", "4"]
    capsys.readouterr()
    line = fails(capsys, *argv)
    assert "data.shuffle: the run has 'shards', found 'full'" in line
    assert "data.shuffle_window: the run has 2, found 64" in line


def test_latents_cannot_be_encoded_nor_measured_against(tmp_path, gaussian, capsys):
    vae = load_codec(str(gaussian)).fingerprint
    cache = write_cache(tmp_path / "cache", random_moments(NUM, views=1), channels=4, vae=vae, labels=LABELS)
    argv = [
        "train",
        RECIPE,
        "--output",
        tmp_path / "run",
        *OPTIONS[:-2],
        "--data.source",
        cache,
        "--latents.vae",
        gaussian,
    ]
    assert fails(capsys, *argv).startswith(
        f"evaluation.features: expected null, since data.source {cache} holds latents"
    )
    images = ["--evaluation.features", "null", "--latents.encode", "while_training"]
    assert fails(capsys, *argv, *images).startswith(f"latents.encode: expected ahead, since data.source {cache} holds ")
    lines = runs(capsys, *argv, "--evaluation.features", "null", "--dry_run")
    assert any(line.startswith("# steps: 3 of 8 images") for line in lines)
    assert not (tmp_path / "run").exists()
