"""A model is measured as its samples in a file are, by any number of processes, and after a kill."""

import csv
import json
import multiprocessing
import os

import numpy as np
import pytest
import torch

import dit.evaluation.features as features_module
from dit.cli import main
from dit.data.mnist import mnist_images
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.features import load_features, register_features
from dit.figures import read_figures
from dit.measuring.processes import parts_of
from dit.zoo.pipeline import Pipeline
from tests.command import fails, runs

pytestmark = pytest.mark.usefixtures("small_protocols")
MODEL, GAUSSIAN = "dit_ti_2.mnist", "dit_ti_2.mnist_gaussian"
OPTIONS = ["--steps", "1", "--num", "22", "--seed", "3", "--batch_size", "4"]


@pytest.fixture
def reference(tmp_path, capsys):
    """Digits as images and their statistics."""
    path, pixels = tmp_path / "digits.npz", tmp_path / "held_out"
    pixels.mkdir()
    images, _ = mnist_images("val")
    from PIL import Image

    for folder in ("a", "b"):
        (pixels / folder).mkdir()
    for number, image in enumerate(images[:40]):
        Image.fromarray(image).save(pixels / "ab"[number % 2] / f"{number}.png")
    options = ["--image_size", "32", "--data.val_fraction", "0", "--images", "20"]
    assert runs(capsys, "reference", pixels, "--out", path, *options) == [str(path)]
    return path


def command(reference, out, *options, source=MODEL):
    by = ["--protocol", "adm", "--reference", reference, "--out", out]
    return [str(argument) for argument in ("evaluate", source, *by, *options)]


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_model_is_measured_as_its_samples_in_a_file(reference, tmp_path, capsys):
    lines = runs(capsys, *command(reference, tmp_path / "model.json", *OPTIONS))
    assert lines[-1] == str(tmp_path / "model.json")
    assert "22 samples by protocol adm against digits.npz" in "\n".join(lines)
    runs(capsys, "sample", MODEL, *OPTIONS, "--out", tmp_path / "x.npz")
    runs(capsys, *command(reference, tmp_path / "file.json", "--batch_size", 4, source=tmp_path / "x.npz"))
    model, file = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("model", "file"))
    assert model["figures"] == file["figures"]
    assert model["figures"]["fid"]["standard_error"] > 0
    assert model["samples"]["pixels_sha256"] == file["samples"]["pixels_sha256"]
    assert model["samples"]["num_calls"] == 1  # one step, before guidance begins to act
    own = {"device": "cpu"}, {"decoded_at_a_time": 16}  # what each knows alone
    assert model["samples"]["made"] | own[1] == file["samples"]["made"] | own[0]
    assert not parts_of(tmp_path / "model.json").exists()
    of_model, of_file = rows(tmp_path / "results.csv")
    same = (
        "samples_sha256",
        "order",
        "weights_sha256",
        "solver",
        "steps",
        "guidance",
        "rounding",
        "arithmetic",
        "seed",
    )
    assert {name: of_model[name] for name in same} == {name: of_file[name] for name in same}
    assert (of_model["samples"], of_model["seed"], of_model["steps"], of_model["order"]) == (MODEL, "3", "1", "drawn")
    assert float(of_model["fid"]) == model["figures"]["fid"]["value"]


def test_a_classifier_judges_a_model_and_its_samples_in_a_file_alike(tmp_path, capsys):
    options = ["--protocol", "adm", "--features", "mnist", "--metrics", "accuracy,inception_score"]
    weak = [*OPTIONS, "--solver", "ddim", "--guidance", "0.3", "--guidance_interval", "0,1", "--steps", "2"]
    runs(capsys, "evaluate", GAUSSIAN, *weak, *options, "--out", tmp_path / "model.json")
    runs(capsys, "sample", GAUSSIAN, *weak, "--out", tmp_path / "x.npz")
    runs(capsys, "evaluate", tmp_path / "x.npz", *options, "--out", tmp_path / "file.json")
    model, file = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("model", "file"))
    with np.load(tmp_path / "x.npz") as found:
        images, labels = torch.from_numpy(found["arr_0"]).permute(0, 3, 1, 2), torch.from_numpy(found["arr_1"])
    taken_for = load_features("mnist")(images).logits.argmax(dim=1)
    expected = (taken_for == labels).double().mean().item()
    assert 0.2 < expected < 1  # of two steps, with less than the class says
    assert model["figures"]["accuracy"]["value"] == file["figures"]["accuracy"]["value"] == pytest.approx(expected)
    assert file["networks"]["mnist"]["preprocessing"] == "by_the_network"
    measured = {figure.name: figure.protocol for figure in read_figures(tmp_path / "file.json").measured}
    assert measured == {"inception_score": "protocol adm", "accuracy": "mnist classifier"}
    assert [float(row["accuracy"]) for row in rows(tmp_path / "results.csv")] == pytest.approx([expected] * 2)


def test_what_class_accuracy_lacks_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(features_module, "_FACTORIES", dict(features_module._FACTORIES))
    np.savez(tmp_path / "x.npz", np.zeros((20, 32, 32, 3), np.uint8))

    def refused(*options):
        message = fails(capsys, "evaluate", tmp_path / "x.npz", "--protocol", "adm", *options)
        assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
        return message

    assert refused("--features", "mnist", "--metrics", "accuracy").startswith("accuracy: expected the class of every")
    message = "--features: expected a classifier where --metrics has accuracy, else none, found"
    assert refused("--metrics", "accuracy") == f"{message} none"
    assert refused("--features", "mnist", "--metrics", "fid") == f"{message} mnist"
    register_features("nameless")(
        lambda name, device: FeatureExtractor(name, 3, lambda images: (images, None), "0" * 64, device)
    )
    assert refused("--features", "nameless").startswith("--features: expected a classifier whose classes have names")


def test_two_processes_write_the_report_of_one(reference, tmp_path, capsys):
    runs(capsys, *command(reference, tmp_path / "one.json", *OPTIONS, "--balanced"))
    runs(capsys, *command(reference, tmp_path / "two.json", *OPTIONS, "--balanced", "--processes", 2))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert json.loads((tmp_path / "one.json").read_text())["samples"]["num_per_class"] == [2, 3]
    assert len(rows(tmp_path / "results.csv")) == 2
    assert not parts_of(tmp_path / "two.json").exists()


def test_a_launchers_processes_share_the_work_and_the_first_one_reports(reference, tmp_path, monkeypatch, capsys):
    runs(capsys, *command(reference, tmp_path / "one.json", *OPTIONS))
    argv = command(reference, tmp_path / "three.json", *OPTIONS)
    monkeypatch.setenv("WORLD_SIZE", "3")
    children = []
    for rank in (0, 1, 2):
        monkeypatch.setenv("RANK", str(rank))
        children.append(multiprocessing.get_context("fork").Process(target=lambda: os._exit(main(argv))))
        children[-1].start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "three.json").read_bytes()
    assert len(rows(tmp_path / "results.csv")) == 2


def test_after_a_kill_only_what_is_missing_is_made(reference, tmp_path, monkeypatch, capsys):
    runs(capsys, *command(reference, tmp_path / "whole.json", *OPTIONS))
    argv, parts = command(reference, tmp_path / "cut.json", *OPTIONS), parts_of(tmp_path / "cut.json")
    with monkeypatch.context() as patch:
        patch.setenv("DIT_FAILPOINT", "write:00000012.safetensors:kill")
        child = multiprocessing.get_context("fork").Process(target=main, args=(argv,))
        child.start()
        child.join(60)
    assert child.exitcode == -9
    assert sorted(path.name for path in parts.glob("*.safetensors")) == [f"{i:08d}.safetensors" for i in (0, 4, 8)]
    assert not (tmp_path / "cut.json").exists()
    drawn, draw = [], Pipeline.draw
    monkeypatch.setattr(Pipeline, "draw", lambda *given: drawn.append(given[2][0]) or draw(*given))
    runs(capsys, *argv)
    assert drawn == [12, 16, 20]
    assert (tmp_path / "cut.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not parts.exists()


def test_a_signal_keeps_what_was_done_and_other_settings_are_refused(reference, tmp_path, monkeypatch, capsys):
    draw, calls = Pipeline.draw, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(*arguments)

    argv = command(reference, tmp_path / "x.json", *OPTIONS)
    monkeypatch.setattr(Pipeline, "draw", stopped)
    assert main(argv) == 75
    assert "x.json: stopped; what was measured is kept, and the same command goes on" in capsys.readouterr().err
    message = fails(capsys, *argv, "--guidance", "3")
    assert "sampling is {" in message
    assert "go on with the same settings, choose another --out, or remove" in message
    assert runs(capsys, *argv)[-1] == str(tmp_path / "x.json")


def test_what_can_not_be_measured_is_told_before_the_work(reference, tmp_path, capsys):
    def refused(*options, code=2):
        message = fails(capsys, *command(reference, tmp_path / "x.json", "--num", 22, *options), code=code)
        assert {path.name for path in tmp_path.iterdir()} <= {"digits.npz", "held_out", "other.npz", "cache"}
        return message

    assert refused("--num", 6) == ("fid: expected at least 7 samples, found 6; make more, or leave it out by --metrics")
    assert refused("--metrics", "kid").startswith("--metrics: expected figures of protocol adm")
    assert refused("--batch_size", 0) == "--batch_size: expected at least 1, found 0"
    assert refused("--num", 0).startswith("num: expected a whole number of at least 1, found 0")
    assert refused("--seed", -1).startswith("seed: expected a whole number of at least 0, found -1")
    assert refused("--steps", 0).startswith("--steps: expected a value greater than or equal to 1, found 0")
    assert refused("--published").startswith("--published: expected weights with a published setting, found none of")
    assert refused("--processes", 0).startswith("--processes: expected at least 1")
    np.savez(tmp_path / "other.npz", np.zeros((20, 16, 16, 3), np.uint8))
    assert "expected a reference of 32 x 32 pixels as the samples" in refused("--reference", tmp_path / "other.npz")
    (tmp_path / "other.npz").write_bytes((tmp_path / "digits.npz").read_bytes()[:5000])
    assert "expected a whole .npz file" in refused("--reference", tmp_path / "other.npz", code=1)
