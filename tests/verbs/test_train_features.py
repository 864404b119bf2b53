"""Training by cached features: the losses are those of features that are computed at every use."""

import json

import pytest

from dit.cli import main
from tests.command import RECIPE, TINY, fails, runs
from tests.latents.test_features import write_encoder

STORED = 2**-9
"""Rounding to bfloat16 moves every feature by at most this share of it, and a cosine by no more."""


@pytest.fixture
def options(jpegs, small_vae, tmp_path):
    """What encoding and training share; images of 32 pixels, latents of 16 x 16, a network of 8 x 8 tokens."""
    return {
        "encode": [
            *("--data", jpegs, "--vae", small_vae, "--image_size", "32", "--flip", "--out", tmp_path / "out"),
            *("--data.val_fraction", "0.2"),
        ],
        "train": [
            *("train", RECIPE, *TINY, "--train.max_steps", "2", "--train.validate_every", "0", "--data.source", jpegs),
            *(
                "--data.image_size",
                "32",
                "--data.flip",
                "true",
                "--latents.vae",
                small_vae,
                "--data.val_fraction",
                "0.2",
            ),
            *("--evaluation.features", "null", "--latents.cache", tmp_path / "out"),
        ],
        "alignment": {"name": "alignment", "block": 1, "head_width": 8, "encoder": write_encoder(tmp_path / "encoder")},
    }


def losses(options, output, auxiliary, *more):
    argv = [*options["train"], "--output", output, "--objective.auxiliary", json.dumps([auxiliary]), *more]
    assert main([str(argument) for argument in argv]) == 0
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_losses_are_those_without_a_cache(options, tmp_path, capsys):
    encoder = options["alignment"]["encoder"]
    lines = runs(capsys, "encode", *options["encode"], "--features", encoder, "--verify")
    assert [line.split()[0] for line in lines] == ["train", "val", "train"]
    assert lines[2].startswith(f"train  features of 16 images, 32x8x8, {encoder}  {tmp_path}/out/features/train-")
    assert runs(capsys, "encode", *options["encode"], "--features", encoder) == lines
    plan = runs(capsys, "encode", *options["encode"], "--features", encoder, "--dry_run")
    assert [line.split(", ")[1:] for line in plan][2][:1] == ["131.1 kB"]  # 16 images, 2 views of 32 x 8 x 8 in 2 bytes

    new = losses(options, tmp_path / "new", options["alignment"], "--latents.encode", "while_training")
    cached = options["alignment"] | {"features": str(tmp_path / "out")}
    for name, *more in (("by_images", "--latents.encode", "while_training"), ("by_latents",)):
        found = losses(options, tmp_path / name, cached, *more)
        assert found[0]["loss"] == pytest.approx(new[0]["loss"], rel=1e-4)  # moments alone, or beside others
        for row, expected in zip(found, new, strict=True):
            assert row["loss_alignment"] == pytest.approx(expected["loss_alignment"], abs=STORED)
            assert row["loss_alignment"] != expected["loss_alignment"]


def test_what_does_not_fit_is_told_before_anything_is_encoded(options, tmp_path, capsys):
    cached = ["--objective.auxiliary", json.dumps([options["alignment"] | {"features": str(tmp_path / "out")}])]
    argv = [*options["train"], "--output", tmp_path / "run", *cached]
    line = fails(capsys, *argv)
    assert line.startswith(
        "objective.auxiliary: alignment.features: expected features that dit encode --features wrote"
    )
    assert not (tmp_path / "out").exists()
    line = fails(capsys, *argv, "--data.crop", "random", "--latents.encode", "while_training")
    assert line.endswith("data.crop: expected centre, since alignment.features names cached ones, found random")
    encode = ["encode", *options["encode"]]
    line = fails(capsys, *encode, "--features_grid", "3")
    assert line == "--features_grid: expected a number above 0 beside --features, found 3"
    line = fails(capsys, *encode, "--features", "timm/vit_bse_patch16_224")
    assert line.startswith("--features: expected timm/MODEL, found no timm model 'vit_bse_patch16_224'. Did you mean")
