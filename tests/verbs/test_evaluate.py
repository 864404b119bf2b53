import json
import shutil

import pytest
import torch
from PIL import Image

from dit.data.imagenet import imagenet_classes
from dit.errors import ConfigError
from dit.measuring.beside_held_out import names_of
from dit.zoo.turns import Turns
from tests.command import fails, runs
from tests.data.pictures import write_folder


def test_figures_are_written_beside_the_model_and_printed(trained, tmp_path, capsys):
    folder = shutil.copytree(trained / "export", tmp_path / "model")
    lines = runs(capsys, "evaluate", folder, "--num", "30", "--steps", "3", "--solver", "euler", "--seed", "5")
    report = json.loads((folder / "eval.json").read_text())
    assert (report["num"], report["seed"]) == (30, 5)
    assert (report["sampling"]["solver"]["name"], report["sampling"]["steps"]) == ("euler", 3)
    assert report["subject"]["source"] == "model"  # nothing of the folders of this machine
    assert len(report["subject"]["weights_sha256"]["model.safetensors"]) == 64
    text = "\n".join(lines)
    for words in ("class accuracy", "Frechet distance", "its floor", "30 samples"):
        assert words in text
    assert lines[-1] == str(folder / "eval.json")
    with Image.open(folder / "failures.png") as picture:  # a network of three training steps fails at most digits
        assert picture.mode == "L"
    card = (folder / "README.md").read_text()
    assert "![Failures](failures.png)" in card
    assert ".parts" not in card  # of the evaluation, which are there until the report is written


def test_the_package_and_the_caches_are_left_alone(tmp_path, monkeypatch, capsys):
    from dit.files import ASSETS

    shipped = ASSETS / "dit_ti_2.mnist"
    before = {path.name: path.read_bytes() for path in shipped.iterdir()}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dit_ti_2.mnist").mkdir()  # a zoo name comes before a folder of that name
    runs(capsys, "evaluate", "dit_ti_2.mnist", "--num", "20", "--steps", "2")
    assert json.loads((tmp_path / "eval.json").read_text())["subject"]["source"] == "dit_ti_2.mnist"
    assert {path.name: path.read_bytes() for path in shipped.iterdir()} == before


def test_a_folder_without_a_recipe_is_refused(trained, tmp_path, capsys):
    folder = shutil.copytree(trained / "export", tmp_path / "model")
    (folder / "recipe.yaml").unlink()
    assert "expected a recipe.yaml" in fails(capsys, "evaluate", folder)


def test_a_wrong_extractor_or_option_is_named(trained, capsys):
    assert "'mnits'" in fails(capsys, "evaluate", trained / "export", "--features", "mnits")
    assert fails(capsys, "evaluate", trained / "export", "--num", "1").startswith("--evaluation.num: expected")


def test_images_of_other_things_are_no_held_out_images(trained, jpegs, tmp_path, capsys):
    for options in (["--features", "mnist"], ["--likelihood", "--evaluation.features", "null"]):
        argv = ["evaluate", trained / "export", "--data", jpegs, *options, "--out", tmp_path / "x.json"]
        message = fails(capsys, *argv)
        assert "expected images of the model's classes (0, 1, 2, 3, 4, ...), found none of them, but cats" in message
    assert not (tmp_path / "x.json").exists()


def test_imagenet_is_imagenet_however_its_classes_are_called():
    names = tuple(imagenet_classes())
    longer = tuple(f"thing, {name}" for name in names)
    assert names_of(longer, names, "imagenet") == names
    with pytest.raises(ConfigError, match="found none of them, but thing, tench"):
        names_of(longer[:999], names, "imagenet")


def test_likelihoods_of_held_out_latents_join_the_report(trained, tmp_path, capsys):
    options = ["--num", "10", "--steps", "2", "--evaluation.likelihood.num", "6", "--evaluation.likelihood.steps", "2"]
    lines = runs(capsys, "evaluate", trained / "export", "--likelihood", *options, "--out", tmp_path / "eval.json")
    report = json.loads((tmp_path / "eval.json").read_text())
    assert report["num"] == 10
    assert report["likelihood"]["num"] == 6
    assert report["likelihood"]["settings"]["steps"] == 2
    assert report["likelihood"]["num_dims"] == 256
    text = "\n".join(lines)
    for words in ("Frechet distance", "NLL by the ODE", "bits per dimension of the latent", "±"):
        assert words in text


LIKELIHOOD = ["--likelihood", "--evaluation.likelihood.num", "4", "--evaluation.likelihood.steps", "1"]


def test_offloaded_models_are_measured_with_what_computes_on_the_device(trained, tmp_path, capsys, monkeypatch):
    brought, bring = [], Turns.bring

    def watch(turns, name):
        brought.append(name)
        bring(turns, name)

    monkeypatch.setattr(Turns, "bring", watch)
    options = ["--num", "20", "--steps", "2", *LIKELIHOOD]
    reports = []
    for name, further in (("plain", []), ("offload", ["--offload"])):
        runs(capsys, "evaluate", trained / "export", *options, *further, "--out", tmp_path / f"{name}.json")
        reports.append(json.loads((tmp_path / f"{name}.json").read_text()))
    assert reports[0] == reports[1]
    assert brought == ["network", "codec"] * 2 + ["codec", "network"]  # two batches; moments, and their likelihood


def test_a_report_says_how_its_model_was_compiled_and_decoded(trained, tmp_path, capsys, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(module))
    options = ["--num", "20", "--steps", "2", "--compiled", "blocks", "--decoder_tile", "8"]
    runs(capsys, "evaluate", trained / "export", *options, "--out", tmp_path / "eval.json")
    subject = json.loads((tmp_path / "eval.json").read_text())["subject"]
    assert (subject["compiled"], subject["decoder_tile"]) == ("blocks", 8)
    assert compiled


def test_likelihoods_by_recorded_calls_are_refused(trained, capsys):
    message = fails(capsys, "evaluate", trained / "export", "--likelihood", "--compiled", "graphs")
    assert message == "--likelihood: expected --compiled off or blocks, for it needs gradients, found graphs"


def test_where_no_extractor_is_known_the_likelihood_is_all_there_is(trained, tmp_path, capsys):
    """Images in a folder, one sub-folder per digit: nothing here knows features of them."""
    names = json.loads((trained / "export" / "config.json").read_text())["id2label"].values()
    write_folder(tmp_path / "images", dict.fromkeys(names, 20), size=32)
    out = tmp_path / "eval.json"
    options = ["--data", tmp_path / "images", "--evaluation.likelihood.steps", "2", "--out", out]
    options += ["--evaluation.features", "null"]
    assert "expected a feature extractor" in fails(capsys, "evaluate", trained / "export", *options)
    lines = runs(capsys, "evaluate", trained / "export", "--likelihood", *options)
    report = json.loads(out.read_text())
    assert set(report) == {"format_version", "subject", "likelihood", "versions"}
    assert report["likelihood"]["num"] == 10
    assert "Frechet" not in "\n".join(lines)
