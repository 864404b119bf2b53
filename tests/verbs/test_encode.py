import re

from dit.cli import main
from tests.command import fails, runs


def test_images_are_encoded_once_and_their_latents_compared_with_their_hashes(jpegs, small_vae, tmp_path, capsys):
    """D6."""
    argv = ["encode", "--data", jpegs, "--vae", small_vae, "--image_size", "32", "--out", tmp_path / "cache"]
    argv += ["--data.val_fraction", "0.2"]
    lines = runs(capsys, *argv)
    assert [line.split()[:5] for line in lines] == [
        ["train", "16", "images,", "2", "classes"],
        ["val", "4", "images,", "2", "classes"],
    ]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*/*")}
    assert len(files) == 4
    assert runs(capsys, *argv) == lines
    assert {path: path.stat().st_mtime_ns for path in files} == files
    part = max(files)  # of the held-out images
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert main([str(argument) for argument in argv]) == 1
    assert re.search(rf"{part}: expected sha256 \w{{64}}, found \w{{64}}; remove", capsys.readouterr().err)


def test_a_wrong_option_is_named(tmp_path, capsys):
    argv = ["encode", "--data", "mnist", "--vae", "mnist", "--out", tmp_path]
    assert fails(capsys, *argv, "--image_size", "3").startswith("--image_size: expected a value greater than")
    assert fails(capsys, *argv, "--optim.lr", "1") == "--optim.lr: dit encode takes --data.FIELD and --latents.FIELD"
    assert fails(capsys, *argv, "--latents.storage", "int4").startswith("--storage: expected 'float32' or 'float16'")
