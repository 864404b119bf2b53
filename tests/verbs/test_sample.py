import json

import numpy as np
import pytest
from PIL import Image

from dit.cli import main
from dit.data.mnist import mnist_images
from dit.drawing import inversion_defaults
from dit.sampling.config import SamplingConfig
from dit.zoo.pipeline import Pipeline
from tests.command import fails, runs
from tests.latents.conftest import small_kl


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("steps", "0", "--steps: expected a value greater than or equal to 1, found 0"),
        ("guidance", "-1", "--guidance: expected a value greater than or equal to 0, found -1.0"),
        ("solver", "hein", "--solver: expected 'ddpm'"),
        ("out", "x.txt", "--out: expected a file ending in .png"),
    ],
)
def test_s2_a_wrong_sampling_option_is_named(option, value, words, capsys):
    assert fails(capsys, "sample", "nothing", f"--{option}", value).startswith(words)


def test_an_export_is_sampled_into_a_grid_with_a_column_per_class(trained, tmp_path, capsys):
    out = tmp_path / "deep" / "grid.png"
    assert runs(capsys, "sample", trained / "export", "--classes", "1,2,3", "--num", "6", "--out", out) == [str(out)]
    with Image.open(out) as image:
        assert image.mode == "L"
        assert image.width > image.height  # three columns, two rows


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("classes", "10", "classes: expected an id from 0 to 9, found 10"),
        ("classes", "zero", "classes: no class is named 'zero'"),
        ("seed", "-1", "seed: expected a whole number of at least 0, found -1"),
        ("device", "nothing", "device: expected a device of this machine, found 'nothing'"),
    ],
)
def test_s1_s2_a_value_out_of_range_names_the_valid_ones(option, value, words, trained, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert fails(capsys, "sample", trained, f"--{option}", value, "--out", out).startswith(words)
    assert not out.exists()


def test_a_source_that_is_not_there_is_named(capsys):
    assert fails(capsys, "sample", "nothing").startswith("nothing: ")


@pytest.mark.parametrize(
    ("model", "how", "most"),
    [
        ("dit_ti_2.mnist", "there and back by heun in 12 steps each, guidance 1", 0.01),
        ("dit_ti_2.mnist_gaussian", "there and back by heun in 20 steps each, guidance 1", 0.02),
    ],
)
def test_an_image_goes_to_its_noise_and_back_by_the_models_defaults(model, how, most, tmp_path, capsys):
    """The models' own solvers have no way back, so another is named in their place."""
    images, labels = mnist_images("val")
    Image.fromarray(images[0]).save(tmp_path / "digit.png")
    options = ["--inversion", tmp_path / "digit.png", "--classes", labels[0], "--out", tmp_path / "inverted.png"]
    picture, settings, _, in_latents, in_pixels, noise = runs(capsys, "sample", model, *options)
    assert (picture, settings) == (str(tmp_path / "inverted.png"), how)
    assert 0 < float(in_latents.split()[2]) < most
    assert float(in_pixels.split()[0]) < 255 * most / 2
    assert float(noise.split()[5]) == pytest.approx(1, abs=0.3)


def test_a_solver_with_a_way_back_takes_more_steps_for_it():
    for steps, found in ((15, 50), (60, 60)):
        own = SamplingConfig(solver={"name": "ddim"}, steps=steps, guidance=2.0)
        assert inversion_defaults(own) == {"steps": found, "guidance": 1.0}


def test_an_inversion_by_a_solver_without_a_way_back_is_refused(tmp_path, capsys):
    Image.new("L", (32, 32)).save(tmp_path / "digit.png")
    options = ["--inversion", tmp_path / "digit.png", "--solver", "dpmpp_2m"]
    words = "sampling.solver: inversion needs a solver without noise"
    assert fails(capsys, "sample", "dit_ti_2.mnist", *options, "--classes", "1").startswith(words)
    words = "--classes: expected the class of the image, found 2 classes"
    assert fails(capsys, "sample", "dit_ti_2.mnist", *options, "--classes", "1,2") == words
    words = "--classes: expected the class of the image, found none"
    assert fails(capsys, "sample", "dit_ti_2.mnist", *options) == words
    assert fails(capsys, "sample", "dit_ti_2.mnist", *options, "--interpolate", "seeds").startswith("--trajectory, ")


def test_a_started_folder_is_not_mixed_with_quantised_images(tmp_path, capsys):
    pytest.importorskip("torchao")
    command = ["sample", "dit_ti_2.mnist", "--steps", "2", "--classes", "3", "--out", tmp_path / "many"]
    runs(capsys, *command)
    message = fails(capsys, *command, "--quantize", "int8_weight")
    assert "precision is float32 there and int8_weight now" in message


def test_figures_of_quantised_weights_are_not_taken_for_the_models(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torchao")
    monkeypatch.chdir(tmp_path)
    runs(capsys, "evaluate", "dit_ti_2.mnist", "--num", "20", "--steps", "2", "--quantize", "int8_weight")
    assert json.loads((tmp_path / "eval.int8_weight.json").read_text())["subject"]["precision"] == "int8_weight"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num", "5000"], "--num: expected at most 4096 in one picture, found 5000; --out takes a folder or .npz"),
        (
            ["--num", "99999999999", "--out", "many"],
            "num: expected a whole number of at most 10000000, found",
        ),
        (["--sampling.solver.eta", "0.5"], "--solver.eta: unknown key: it belongs to another choice of solver"),
        (["--sampling.eta", "0.5"], "--eta: unknown key. Did you mean 'solver.eta'?"),
        (["--seed", str(2**63)], f"seed: expected a whole number of at most {2**63 - 1}, found {2**63}"),
        (["--inversion", "none.png", "--classes", "1"], "--inversion: expected an image file, found none at none.png"),
        (["--balanced", "--drawn"], "--drawn: classes are drawn from all; leave out --balanced"),
        (["--classes", "3", "--drawn"], "--drawn: classes are drawn from all; leave out --classes"),
        (["--processes", "2"], "--processes: expected 1 for one picture, found 2; --out takes a folder or .npz"),
        (["--processes", "0", "--out", "many"], "--processes: expected at least 1, and just 1 under another launcher"),
        (["--out", "file/x.png"], "--out: expected a place that can be written, found "),
        (["--trajectory", "file/x.gif"], "--trajectory: expected a place that can be written, found "),
    ],
)
def test_what_can_not_be_done_is_said_before_the_work(options, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert fails(capsys, "sample", "dit_ti_2.mnist", *options).startswith(words)
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "many"}


def test_an_architecture_is_not_taken_for_weights(capsys):
    assert fails(capsys, "sample", "dit_s_2").startswith("dit_s_2: expected weights, found the name of an architecture")


@pytest.mark.parametrize("out", ["many", "many.npz"])
def test_a_signal_keeps_what_was_made_and_the_same_command_goes_on(out, tmp_path, capsys, monkeypatch):
    command = ["sample", "dit_ti_2.mnist", "--steps", "2", "--num", "4", "--batch_size", "2", "--out", tmp_path / out]
    draw, calls = Pipeline.draw, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(Pipeline, "draw", stopped)
    assert main([str(argument) for argument in command]) == 75
    assert "the same command goes on" in capsys.readouterr().err
    assert runs(capsys, *command) == [f"{tmp_path / out}: made 2 of 4 images"]


def test_a_preview_decoder_draws_the_trajectory_and_not_the_samples(tmp_path, capsys):
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    grey = {"in_channels": 1, "out_channels": 1, "latent_channels": 4, "block_out_channels": (8, 8, 8)}
    small_kl(**levels, **grey).save_pretrained(tmp_path / "other")
    command = ["sample", "dit_ti_2.mnist", "--classes", "3", "--steps", "2"]
    for name, options in (("own", []), ("other", ["--sampling.preview_decoder", tmp_path / "other"])):
        runs(
            capsys,
            *command,
            "--out",
            tmp_path / f"{name}.png",
            "--trajectory",
            tmp_path / f"{name}_strip.png",
            *options,
        )
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    assert (tmp_path / "own_strip.png").read_bytes() != (tmp_path / "other_strip.png").read_bytes()


def test_labels_of_many_images_are_drawn_or_in_turn(tmp_path, capsys):
    def labels(*options):
        out = tmp_path / f"{'_'.join(options) or 'default'}.npz"
        command = ["sample", "dit_ti_2.mnist", "--steps", "1", "--num", "20", "--batch_size", "20", "--out", out]
        runs(capsys, *command, *options)
        with np.load(out) as file:
            return file["arr_1"].tolist(), json.loads(str(file["about"]))["order"]

    assert labels("--balanced") == ([*range(10), *range(10)], "balanced")
    drawn = labels("--drawn")
    assert drawn[1] == "drawn"
    assert drawn == labels()
    assert set(drawn[0]) <= set(range(10))
    assert drawn[0] != labels("--balanced")[0]


def test_two_processes_of_this_machine_make_the_bytes_of_one(tmp_path, capfd):
    command = ["sample", "dit_ti_2.mnist", "--num", "6", "--batch_size", "2", "--steps", "1", "--balanced"]
    for name, options in (("one.npz", []), ("two.npz", ["--processes", "2"])):
        assert main([*command, *options, "--out", str(tmp_path / name)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "made 6 of 6 images" in lines[0]
    assert sorted(line.split(": ")[1] for line in lines[1:]) == [
        "made 2 of 6 images in process 1",
        "made 4 of 6 images in process 0",
    ]
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
