import json
import re

import pytest

import dit.latents.plan
from dit.cli import main
from tests.command import TINY, fails, runs


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
    part.write_bytes(part.read_bytes()[:-100] + b"x" * 10 + part.read_bytes()[-90:])
    runs(capsys, *argv)  # hashes take time
    assert main([str(argument) for argument in [*argv, "--verify"]]) == 1
    assert re.search(rf"{part}: expected sha256 \w{{64}}, found \w{{64}}; remove", capsys.readouterr().err)


def test_several_processes_make_the_same_files_and_a_signal_to_one_stops_all(
    jpegs, small_vae, tmp_path, monkeypatch, capfd
):
    argv = ["encode", "--data", jpegs, "--vae", small_vae, "--image_size", "32", "--latents.batch_size", "1"]
    monkeypatch.setattr(dit.latents.plan, "PART_ROWS", 2)
    once = runs(capfd, *argv, "--out", tmp_path / "1", "--verify", "--limit", "6")
    argv += ["--out", tmp_path / "2", "--limit", "6", "--processes", "2"]
    monkeypatch.setenv("DIT_FAILPOINT", "encode:part-00001:whole:signal=TERM")
    assert main([str(argument) for argument in argv]) == 75
    words = r"^dit: stopped by SIGTERM with \d of \d images encoded; the same command goes on$"
    assert len(re.findall(words, capfd.readouterr().err, re.MULTILINE)) == 1
    monkeypatch.delenv("DIT_FAILPOINT")
    assert runs(capfd, *argv) == [line.replace(str(tmp_path / "1"), str(tmp_path / "2")) for line in once]
    assert [line.split()[:2] for line in once] == [["train", "6"], ["val", "1"]]
    names = sorted(path.relative_to(tmp_path / "1") for path in tmp_path.glob("1/*/*"))
    assert len(names) == 3 + 1 + 2
    assert all((tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes() for name in names)
    (jpegs / "cats" / "000.jpg").write_bytes(b"")
    assert "cats/000.jpg: expected" in fails(capfd, *argv, "--data.val_fraction", "0", code=1)


def test_a_dry_run_says_bytes_and_time_and_writes_nothing(jpegs, small_vae, tmp_path, capsys, monkeypatch):
    argv = ["encode", "--data", jpegs, "--vae", small_vae, "--image_size", "32", "--out", tmp_path / "cache"]
    argv += ["--data.val_fraction", "0.2", "--latents.batch_size", "4", "--flip"]
    lines = runs(capsys, *argv, "--dry_run")
    # 16 images in two views of 8 channels of 16 x 16 in float32
    words = r"(\w+) +(\d+) images, (\S+) kB, 0 done; \S+ images/s, 0:0\d left  (.*)/cache/(train|val)-\w+"
    found = [match.groups() for match in (re.fullmatch(words, line) for line in lines) if match]
    assert found == [("train", "16", "262.1", str(tmp_path), "train"), ("val", "4", "32.8", str(tmp_path), "val")]
    assert not (tmp_path / "cache").exists()
    runs(capsys, *argv)
    assert runs(capsys, *argv, "--dry_run")[0].startswith("train  16 images, 262.1 kB, 16 done  ")


def test_a_wrong_option_is_named(tmp_path, capsys):
    argv = ["encode", "--data", "mnist", "--vae", "mnist", "--out", tmp_path]
    assert fails(capsys, *argv, "--image_size", "3").startswith("--image_size: expected a value greater than")
    assert fails(capsys, *argv, "--limit", "0").startswith("--limit: expected a value greater than")
    assert fails(capsys, *argv, "--processes", "0").startswith("--processes: expected at least 1, ")
    assert fails(capsys, *argv, "--optim.lr", "1") == "--optim.lr: dit encode takes --data.FIELD and --latents.FIELD"
    assert fails(capsys, *argv, "--latents.storage", "int4").startswith("--storage: expected 'float32', 'float16' or")


def test_measured_statistics_are_those_of_a_run_and_of_its_export(jpegs, small_vae, tmp_path, capsys):
    argv = ["--latents.cache", tmp_path / "cache", "--data.val_fraction", "0.2"]
    encode = ["encode", "--data", jpegs, "--vae", small_vae, "--image_size", "32", "--out", tmp_path / "cache"]
    lines = runs(capsys, *encode, "--data.val_fraction", "0.2", "--stats")
    assert [line.split()[0] for line in lines] == ["train", "mean", "std", "val"]
    (path,) = tmp_path.glob("cache/*/statistics.json")
    statistics = json.loads(path.read_text())
    assert lines[2].split(", ")[-1] == f"{statistics['std'][-1]:g}"
    train = ["train", "dit_s_2_folder", "--data.source", jpegs, "--latents.vae", small_vae, "--data.image_size", "32"]
    train += ["--data.flip", "false", "--output", tmp_path / "run", "--latents.normalise", "measured", *TINY]
    train += ["--model.num_heads", "4", "--train.preview_every", "0", "--train.max_steps"]
    runs(capsys, *train, "1", *argv)
    assert len(list(tmp_path.glob("cache/*/statistics.json"))) == len(list(tmp_path.glob("cache/train*"))) == 1
    described = json.loads((tmp_path / "run" / "export" / "config.json").read_text())["latents"]
    assert described["shift"] == pytest.approx(statistics["mean"])
    assert described["scale"] == pytest.approx([1 / value for value in statistics["std"]])
    statistics["mean"][0] = 1.5
    path.write_text(json.dumps(statistics))
    line = fails(capsys, *train, "2", "--resume", *argv)
    assert f"latents: shift: the run has [{described['shift'][0]}" in line
    assert "found [1.5, " in line
