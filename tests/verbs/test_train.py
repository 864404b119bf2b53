import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from dit.cli import main
from dit.config import load_recipe
from dit.models.registry import create_model
from dit.training.ranks.processes import Processes
from dit.zoo.pipeline import load_pipeline
from tests.command import RECIPE, ROOT, TINY, fails, runs
from tests.latents.conftest import write_small_rae


def test_k1_an_unknown_key_exits_2_and_names_the_nearest(capsys):
    assert fails(capsys, "train", RECIPE, "--optim.lrr", "1") == "--optim.lrr: unknown key. Did you mean 'optim.lr'?"


def test_k8_an_output_folder_with_files_is_refused(capsys, tmp_path):
    (tmp_path / "notes.txt").touch()
    line = fails(capsys, "train", RECIPE, "--output", str(tmp_path))
    assert str(tmp_path) in line
    assert "--resume" in line
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]


def test_a_dry_run_prints_recipe_and_size_and_touches_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = "dit_xl_2_imagenet256"
    assert main(["train", recipe, "--dry-run", "--train.max_steps", "10"]) == 0
    out = capsys.readouterr().out
    assert "max_steps: 10\n" in out
    assert "# parameters: 675,129,632, 118.62 GMAC" in out
    assert "# steps: 10 of 256 images, 2,560 images in all" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--resume", "--change", "optim.lr"],
            "--change: expected FIELD=VALUE, such as optim.lr=5e-5, found 'optim.lr'",
        ),
        (["--change", "optim.lr=5e-5"], "--change optim.lr: expected --resume, found none"),
        (["--resume", "--change", "train.seed=1"], "--change train.seed: this field can't change within a run"),
        (["--resume", "--change", "optim.lr=-1"], "--optim.lr: expected a value greater than 0, found -1"),
        (
            ["--train.decay_from", "x", "--optim.schedule", "wsd", "--dry-run"],
            "train.decay_from: expected a checkpoint",
        ),
        (["--ema.from_file"], "ema.from_file: expected model.pretrained, the training file, found none"),
        (
            ["--ema.from_file", "--model.pretrained", "x.pt"],
            "ema.from_file: expected a training file with model and ema",
        ),
    ],
)
def test_wrong_changes_and_decays_are_one_line(capsys, tmp_path, argv, message):
    assert message in fails(capsys, "train", RECIPE, "--output", tmp_path / "run", *argv)


def test_a_dry_run_counts_the_steps_of_a_decay(capsys):
    decay = [
        "--train.decay_from",
        "RUN/checkpoints/step-00050000",
        "--optim.schedule",
        "wsd",
        "--optim.decay_steps",
        "500",
    ]
    assert main(["train", str(RECIPE), "--dry-run", *decay]) == 0
    assert "# steps: 50,500 of 64 images" in capsys.readouterr().out


def test_a_training_file_of_another_program_is_gone_on_from(capsys, tmp_path):
    sizes = {"hidden_size": 48, "depth": 2}
    network = create_model("dit_ti_2", **sizes, input_size=8, in_channels=4, num_classes=10, learn_sigma=False)
    weights, optimizer = network.state_dict(), torch.optim.AdamW(network.parameters())
    content = {"model": weights, "ema": weights, "opt": optimizer.state_dict(), "steps": 7}
    torch.save(content, tmp_path / "last.pt")
    options = ["--output", tmp_path / "run", *TINY, "--model.pretrained", tmp_path / "last.pt", "--ema.from_file"]
    assert "the weights of model.pretrained know another process" in fails(capsys, "train", RECIPE, *options)
    options += ["--process.retrain"]
    assert "# parameters: " in "\n".join(runs(capsys, "train", RECIPE, *options, "--dry-run"))
    line = fails(capsys, "train", RECIPE, *options, "--optim.trainable", "lora")
    assert line == "ema.from_file: expected optim.trainable all, found lora"


def test_a_dry_run_counts_the_steps_of_epochs(capsys):
    options = ["--train.max_steps", "null", "--train.epochs", "2.5", "--train.mixed_precision", "fp32"]
    assert main(["train", str(RECIPE), "--dry-run", *options]) == 0
    out = capsys.readouterr().out
    assert "# steps: 157 of 64 images, 10,048 images in all" in out  # 2.5 times 4,000
    assert re.search(r"# train.memory of a process, 64 images at a time in fp32 on \w+, not compiled: parameters", out)
    sizes = dict(re.findall(r"(\w+) ([\d.]+) MB[,;]", out))
    assert sizes["gradients"] == sizes["averages"]
    assert float(sizes["optimizer"]) == pytest.approx(2 * float(sizes["gradients"]), abs=0.2)  # two moments, rounded


# --- the whole way ----------------------------------------------------------------------------------------------------


def rows(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_the_others_read(trained):
    assert {"recipe.yaml", "run.json", "metrics.jsonl", "status.json", "checkpoints", "samples", "export"} <= {
        path.name for path in trained.iterdir()
    }
    assert [row["step"] for row in rows(trained)] == [1, 2, 3]
    assert {"loss", "images_seen", "images_per_second", "num_processes"} <= set(rows(trained)[0])
    assert json.loads((trained / "status.json").read_text())["state"] == "done"
    recipe = load_recipe(trained / "recipe.yaml")
    assert (recipe.model.num_classes, recipe.model.input_size, recipe.model.in_channels) == (10, [8, 8], 4)
    assert recipe.train.max_steps == 3


def test_a_run_ends_in_an_evaluated_export(trained):
    report = json.loads((trained / "export" / "eval.json").read_text())
    assert report["num"] == 20
    assert report["frechet_distance"] > report["frechet_floor"] > 0
    assert (trained / "export" / "samples.png").is_file()
    assert "class accuracy" in (trained / "export" / "README.md").read_text()


def test_a_preview_decoder_stays_where_it_was_used(trained):
    assert load_recipe(trained / "recipe.yaml").sampling.preview_decoder == "mnist"
    assert json.loads((trained / "export" / "config.json").read_text())["sampling"]["preview_decoder"] is None


def test_resume_continues_and_exports_anew(trained, tmp_path, capsys):
    output = shutil.copytree(trained, tmp_path / "run")
    options = ["--train.max_steps", "4", "--evaluation.num", "20", "--evaluation.batch_size", "10"]
    lines = runs(capsys, "train", RECIPE, "--output", output, "--resume", *TINY, *options)
    assert [row["step"] for row in rows(output)] == [1, 2, 3, 4]
    assert json.loads((output / "export" / "config.json").read_text())["provenance"]["steps"] == 4
    assert lines[-1].split() == ["samples", str(output / "export" / "samples.png")]


def test_an_unconditional_model_trains_and_is_sampled(tmp_path, capsys):
    output = tmp_path / "run"
    options = ["--train.max_steps", "1", "--model.num_classes", "0", "--evaluation.features", "null"]
    runs(capsys, "train", RECIPE, "--output", output, *TINY, *options)
    runs(capsys, "sample", output / "export", "--num", "2", "--out", tmp_path / "x.png")
    assert (tmp_path / "x.png").is_file()


def test_pretrained_weights_are_where_a_run_starts(trained, tmp_path, capsys):
    options = ["--train.max_steps", "1", "--evaluation.features", "null", "--optim.lr", "1e-30", *TINY]
    start = ["--model.pretrained", trained / "export"]
    runs(capsys, "train", RECIPE, "--output", tmp_path / "run", *options, *start)
    files = [folder / "export" / "model.safetensors" for folder in (tmp_path / "run", trained)]
    assert files[0].read_bytes() == files[1].read_bytes()
    other = fails(capsys, "train", RECIPE, "--output", tmp_path / "other", *options, *start, "--model.depth", "3")
    assert other == "model.depth: the weights of export have 2, asked for 3"


def test_fine_tuning_takes_what_the_recipe_leaves_out_from_the_weights(trained, jpegs, tmp_path, capsys):
    options = ["--model.pretrained", trained / "export", "--data.source", jpegs, "--train.epochs", "1"]
    assert "  hidden_size: 48" in runs(capsys, "train", "finetune", "--dry_run", *options)
    runs(capsys, "train", "finetune", "--output", tmp_path / "run", *options)
    old, new = (json.loads((run / "export" / "config.json").read_text()) for run in (trained, tmp_path / "run"))
    for part in ("process", "latents", "sampling"):
        assert new[part] == old[part]
    assert new["model"]["arguments"] == old["model"]["arguments"] | {"num_classes": 2}
    assert new["id2label"] == {"0": "cats", "1": "dogs"}
    assert "retrain" not in new["process"]
    other = fails(capsys, "train", "finetune", *options, "--process.prediction", "x0")
    assert "prediction x0 (theirs: velocity)" in other
    assert fails(capsys, "train", "finetune", *options[2:]).endswith("add --model.pretrained VALUE")


def test_a_dry_run_of_fine_tuning_needs_no_weights(capsys, monkeypatch):
    monkeypatch.setattr("dit.zoo.source.fetch", None)
    shape = ["--model.num_classes", "2", "--model.input_size", "32", "--model.in_channels", "4"]
    steps = ["--train.epochs", "null", "--train.max_steps", "1", "--data.source", "x"]
    lines = runs(capsys, "train", "finetune", "--dry_run", "--model.pretrained", "dit_xl_2.in256_flow", *shape, *steps)
    assert {"  name: dit_xl_2", "  output_sign: -1", "  vae: stabilityai/sd-vae-ft-ema"} <= set(lines)


AVERAGE = ["--process.name", "average_velocity", "--sampling.guidance", "1"]
MEANFLOW = ["--model.name", "meanflow_ti_2", *AVERAGE, "--process.loss.name", "meanflow"]


@pytest.mark.parametrize(
    ("recipe", "option", "value"),
    [(RECIPE, "sampling.grid", "respaced"), ("meanflow_ti_2_mnist", "sampling.guidance", 2)],
)
def test_sampling_that_the_process_or_the_network_does_not_have_is_refused_before_the_work(
    recipe, option, value, tmp_path, capsys
):
    assert option in fails(capsys, "train", recipe, "--output", tmp_path / "run", f"--{option}", value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.name", "meanflow_ti_2"], "tells this network r besides time and class, found flow, which tells no"),
        (["--process.name", "average_velocity"], "tells this network nothing besides time and class, found average_v"),
        (["--model.name", "imf_ti_2", "--process.name", "average_velocity"], "tells this network h besides time and "),
        (
            [*MEANFLOW, "--process.loss.guidance", "2", "--model.class_dropout_prob", "0"],
            "expected a network with a null class, which guidance needs, found model.class_dropout_prob 0.0",
        ),
        ([*MEANFLOW[:-1], "imf"], "process.loss: imf: expected model.velocity_head true, of a network that has one"),
        ([*MEANFLOW, "--process.time_law.name", "adaptive"], "time_law: expected uniform or logit_normal with loss me"),
        ([*MEANFLOW, "--process.loss.guidance_interval", "[0.5, 0.5]"], "guidance_interval: expected [low, high], "),
    ],
)
def test_a_process_that_does_not_tell_what_the_network_asks_for_is_refused(options, words, tmp_path, capsys):
    for dry_run in ([], ["--dry_run"]):
        assert words in fails(capsys, "train", RECIPE, "--output", tmp_path / "run", *options, *dry_run)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_images_trains_to_an_export_that_samples(jpegs, small_vae, tmp_path, capsys, monkeypatch):
    recipe = "dit_s_2_folder"
    output = tmp_path / "run"
    options = ["--data.source", jpegs, "--data.image_size", "32", "--latents.vae", small_vae, "--train.max_steps", "3"]
    ended = []
    monkeypatch.setattr(Processes, "end", lambda self: ended.append(self))  # the group of processes is left, once
    runs(capsys, "train", recipe, "--output", output, *TINY, *options)
    assert len(ended) == 1
    assert len(rows(output)) == 3
    config = json.loads((output / "export" / "config.json").read_text())
    assert config["id2label"] == {"0": "cats", "1": "dogs"}
    runs(capsys, "sample", output / "export", "--classes", "dogs,0", "--num", "4", "--out", tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.mode == "RGB"


def test_two_processes_log_the_losses_of_one(tmp_path, capsys):
    options = ["--train.max_steps", "5", "--train.mixed_precision", "fp32", "--evaluation.features", "null", *TINY]
    runs(capsys, "train", RECIPE, "--output", tmp_path / "one", *options)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    argv = [*launcher, ROOT / "tools" / "train.py", RECIPE, "--output", tmp_path / "two", *options]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("export")]) == 1  # one process speaks
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert {row["num_processes"] for row in one} == {1}
    assert {row["num_processes"] for row in two} == {2}
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-4)
    assert len(two) == 5


# --- without a cache --------------------------------------------------------------------------------------------------

STREAMED = ["--latents.encode", "while_training", "--data.num_workers", "2"]


def test_a_run_without_a_cache_that_is_stopped_and_resumed_equals_one_with_a_cache(
    tmp_path, jpegs, capsys, monkeypatch
):
    """On pixels, where moments are the same to the last bit; epochs end within batches, for there are 19 images."""
    shape = ["--data.source", jpegs, "--data.image_size", "16", "--latents.vae", "pixels", "--data.flip", "true"]
    steps = ["--train.max_steps", "6", "--train.gradient_accumulation", "2", "--train.checkpoint_every", "100"]
    few = ["--train.mixed_precision", "fp32", "--train.validate_every", "2", "--train.preview_every", "0", *TINY]
    ahead, streamed = tmp_path / "ahead", tmp_path / "streamed"
    options = ["dit_s_2_folder", *shape, *steps, *few]
    runs(capsys, "train", *options, "--output", ahead)
    with monkeypatch.context() as patch:
        patch.setenv("DIT_FAILPOINT", "step-2-rank-0-micro-1:signal=TERM")
        command = [str(argument) for argument in ("train", *options, *STREAMED, "--output", streamed)]
        assert main(command) == 75
    assert multiprocessing.active_children() == []
    assert json.loads((streamed / "status.json").read_text())["state"] == "preempted"
    runs(capsys, "train", *options, *STREAMED, "--output", streamed, "--resume")
    names = ("step", "loss", "loss_by_time", "grad_norm", "val_loss")
    found, expected = ([[row.get(name) for name in names] for row in rows(output)] for output in (streamed, ahead))
    assert found == expected
    assert len(found) == 6
    files = [output / "export" / "model.safetensors" for output in (streamed, ahead)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_two_processes_without_a_cache_log_the_losses_of_one_with_a_cache(tmp_path, capsys):
    """Within rounding: images are encoded beside other ones, and gradients are summed in another order."""
    options = ["--train.max_steps", "5", "--train.mixed_precision", "fp32", "--evaluation.features", "null", *TINY]
    options += ["--data.limit", "64"]
    runs(capsys, "train", RECIPE, "--output", tmp_path / "one", *options)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    argv = [*launcher, ROOT / "tools" / "train.py", RECIPE, "--output", tmp_path / "two", *options, *STREAMED]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-4)
    assert {row["num_processes"] for row in two} == {2}


@pytest.mark.parametrize(
    ("failpoint", "words"),
    [
        ("", r"{broken}: expected an image, found an empty file; restore or remove it"),
        ("read:3:kill", r"/cats/\d+.jpg: a worker process died while it read this .*; look at the file, and"),
    ],
)
def test_a_run_without_a_cache_ends_with_the_file_that_ended_it(failpoint, words, tmp_path, jpegs, capfd, monkeypatch):
    broken = sorted((jpegs / "dogs").iterdir())[0]
    if not failpoint:
        broken.write_bytes(b"")
    monkeypatch.setenv("DIT_FAILPOINT", failpoint)
    shape = ["--data.source", jpegs, "--data.image_size", "16", "--latents.vae", "pixels", "--data.val_fraction", "0"]
    command = ["train", "dit_s_2_folder", "--output", tmp_path / "run", *shape, *TINY, *STREAMED]
    assert main([str(argument) for argument in command]) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if str(jpegs) in line]
    assert re.search(words.format(broken=broken), line)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    assert multiprocessing.active_children() == []


def test_random_crops_change_what_a_run_sees(tmp_path, jpegs, capsys):
    shape = ["--data.source", jpegs, "--data.image_size", "16", "--latents.vae", "pixels", "--train.max_steps", "2"]
    few = ["--train.preview_every", "0", "--train.validate_every", "0", *TINY, *STREAMED]
    for crop in ("centre", "random"):
        runs(capsys, "train", "dit_s_2_folder", "--output", tmp_path / crop, *shape, *few, "--data.crop", crop)
    assert rows(tmp_path / "centre")[0]["loss"] != rows(tmp_path / "random")[0]["loss"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data.crop", "random"], "data.crop: expected centre for images that are encoded ahead"),
        ([*STREAMED, "--data.on_error", "skip"], "data.on_error: expected stop with latents.encode while_training"),
        ([*STREAMED, "--latents.normalise", "measured"], "normalise: expected own with encode while_training"),
    ],
)
def test_what_a_run_without_a_cache_can_not_have_is_refused(options, words, capsys):
    assert words in fails(capsys, "train", RECIPE, "--dry_run", *options)


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_the_data_are_looked_at_before_the_autoencoder_is_downloaded(options, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    recipe = "dit_s_2_folder"  # its autoencoder is on the Hub
    command = ["train", recipe, "--data.source", tmp_path / "empty", "--output", tmp_path / "run", *options]
    assert main([str(argument) for argument in command]) in (1, 2)
    message = capsys.readouterr().err
    assert str(tmp_path / "empty") in message
    assert "sd-vae" not in message


def test_tokens_of_an_encoder_are_trained_on_sampled_and_decoded(tmp_path, jpegs, capsys):
    """A DiT-DH on the latents of a representation autoencoder, as its authors train one."""
    output, rae = tmp_path / "run", write_small_rae(tmp_path / "rae")
    network = [
        "--model.name",
        "ditdh_ti_2",
        "--model.patch_size",
        "1",
        "--model.hidden_size",
        "48",
        "--model.num_heads",
        "3",
    ]
    network += ["--model.head_hidden_size", "64", "--model.head_num_heads", "2", "--model.depth", "2"]
    steps = ["--train.max_steps", "20", "--train.batch_size", "8", "--optim.lr", "1e-3", "--optim.warmup_steps", "0"]
    few = ["--train.log_every", "1", "--train.preview_samples", "2", "--sampling.steps", "2", "--ema.decay", "0.5"]
    data = ["--data.source", jpegs, "--data.image_size", "24", "--latents.vae", rae, "--output", output]
    runs(capsys, "train", "dit_s_2_folder", *data, *network, *steps, *few)
    losses = [row["loss"] for row in rows(output)]
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    shutil.rmtree(rae)  # the export stands alone
    described = json.loads((output / "export" / "config.json").read_text())["latents"]
    assert (described["vae"], described["scale"], described["latent_channels"]) == ("vae", None, 32)
    (picture,) = load_pipeline(output / "export")("dogs")
    assert picture.size == (24, 24)
