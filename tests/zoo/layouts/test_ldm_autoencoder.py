"""Autoencoders named as in latent diffusion: VA-VAE's numbers, REPA-E's statistics, and what is refused."""

import argparse
import re

import pytest
import torch
from safetensors.torch import save_file

from dit.cli import main
from dit.errors import ConfigError, DitError
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from dit.zoo.convert import convert
from dit.zoo.layouts.original import ReadOptions
from tests.goldens import assert_close, load_tensors
from tests.zoo.conftest import CreatesFile, equal

GROUPS = {"norm_num_groups": 8}  # of the golden; published ones have 32
C = 5
MEAN, STD = torch.linspace(-1, 1, C), torch.linspace(0.5, 2, C)


def golden_state():
    tensors = load_tensors("families/vavae")
    return {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}


def flat(path, state):
    torch.save(state, path)


def with_training(path, state):
    beside = {name: torch.ones(2) for name in ("loss.logvar", "foundation_model.x.weight", "linear_proj.weight")}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in (state | beside).items()}}, path)


def joint_checkpoint(path, state):
    """As REPA-E trains: the batch norm of the averaged network holds the statistics."""
    network = {"x_embedder.proj.weight": torch.ones(4, C, 1, 1), "bn.num_batches_tracked": torch.tensor(7)}
    averaged = network | {"bn.running_mean": MEAN, "bn.running_var": STD.square()}
    torch.save({"ema": averaged, "model": network, "vae": state, "args": argparse.Namespace(vae="f16d32")}, path)


def safetensors_file(path, state):
    save_file(state, path)


@torch.no_grad()
@pytest.mark.parametrize("write", [flat, with_training, joint_checkpoint, safetensors_file])
def test_goldens(tmp_path, write):
    write(tmp_path / "file", golden_state())
    options = ReadOptions(model=GROUPS, weights="vae" if write is joint_checkpoint else "ema")
    notices = convert(tmp_path / "file", tmp_path / "vae", options=options)
    assert any("3 tensors of its training were left out" in line for line in notices) == (write is with_training)
    assert any("--stats FILE" in line for line in notices) == (write is not joint_checkpoint)
    codec = load_codec(LatentsConfig(vae=str(tmp_path / "vae"), scale=None if write is joint_checkpoint else 1.0))
    golden = load_tensors("families/vavae")
    mean, log_var = codec.encode(golden["x"]).chunk(2, dim=1)
    assert_close(mean, golden["mean"], 2e-6)  # that of one forward, tests/goldens/README.md
    assert_close(log_var.clamp(-30, 20), golden["logvar"], 2e-6)
    assert_close(codec.autoencoder.decode(golden["z"]), golden["out"], 2e-6)
    if write is joint_checkpoint:  # no eps in what the decoder gets
        assert_close(codec.denormalise(torch.ones(1, C, 1, 1)).flatten(), MEAN + STD, 1e-6)


def test_diffusers_loads_the_folder(tmp_path):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    flat(tmp_path / "vae.pt", golden_state())
    save_file({"mean": MEAN.view(1, C, 1, 1), "std": STD.view(1, C, 1, 1)}, tmp_path / "stats.safetensors")
    options = ReadOptions(model=GROUPS, stats=tmp_path / "stats.safetensors")
    assert convert(tmp_path / "vae.pt", tmp_path / "vae", options=options) == []
    theirs, report = AutoencoderKL.from_pretrained(tmp_path / "vae", output_loading_info=True)
    assert not any(report.values())
    codec = load_codec(str(tmp_path / "vae"))
    assert equal(theirs.state_dict(), codec.autoencoder.state_dict())
    assert_close(codec.normalise(torch.ones(1, C, 1, 1)).flatten(), (1 - MEAN) / STD, 1e-6)


def convert_with(stats, tmp_path):
    flat(tmp_path / "vae.pt", golden_state())
    torch.save(stats, tmp_path / "stats.pt")
    convert(tmp_path / "vae.pt", tmp_path / "vae", options=ReadOptions(model=GROUPS, stats=tmp_path / "stats.pt"))


@pytest.mark.parametrize(
    "content",
    [
        {"mean": MEAN.view(1, C, 1, 1), "std": STD.view(1, C, 1, 1)},
        {"latents_bias": MEAN.view(1, C, 1, 1), "latents_scale": 1 / STD.view(1, C, 1, 1)},
    ],
)
def test_statistics(tmp_path, content):
    convert_with(content, tmp_path)
    latents = load_codec(str(tmp_path / "vae")).normalise(torch.ones(1, C, 1, 1)).flatten()
    assert_close(latents, (1 - MEAN) / STD, 1e-6)  # a reciprocal in float64, rounded


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"mean": MEAN, "std": STD[:4]}, "expected statistics of [5], found [5] and [4]"),
        ({"mean": MEAN, "std": STD * 0}, "expected finite statistics and positive deviations"),
        ({"latents_bias": MEAN, "latents_scale": -STD}, "expected finite statistics and positive deviations"),
        ({"mean": MEAN * torch.nan, "std": STD}, "expected finite statistics"),
        (
            {"mean": [0.0] * C, "std": [1.0] * C},
            "expected mean and std, or latents_bias and latents_scale, found mean, ",
        ),
        ([MEAN, STD], "expected mean and std, or latents_bias and latents_scale, found no tensor"),
        ({"mean": MEAN, "std": STD, "data": CreatesFile("sentinel")}, "which could run code"),
    ],
)
def test_other_statistics_are_refused(tmp_path, monkeypatch, content, problem):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DitError, match=rf"stats\.pt: .*{re.escape(problem)}"):
        convert_with(content, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stats.pt", "vae.pt"]


def test_a_batch_norm_of_other_latents_is_refused(tmp_path):
    content = {"vae": golden_state(), "ema": {"bn.running_mean": MEAN, "bn.running_var": -STD}}
    torch.save(content, tmp_path / "joint.pt")
    with pytest.raises(DitError, match=r"joint\.pt: expected finite statistics"):
        convert(tmp_path / "joint.pt", tmp_path / "vae", options=ReadOptions(model=GROUPS, weights="vae"))


@pytest.mark.parametrize("option", [{"weights": "vae"}, {"stats": "stats.pt"}, {"encoder": "x"}])
def test_an_autoencoder_that_was_asked_for_has_to_be_there(tmp_path, option):
    torch.save({"ema": {"x_embedder.proj.weight": torch.ones(1)}}, tmp_path / "network.pt")
    for source in (str(tmp_path / "network.pt"), "dit_ti_2.mnist"):
        with pytest.raises(ConfigError, match=f"--{next(iter(option))}.*: expected a file with an autoencoder, found"):
            convert(source, tmp_path / "out", options=ReadOptions(**option))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda state: state.pop("decoder.up.0.block.1.norm1.bias"), "1 tensors are missing: decoder.up_blocks.1.res"),
        (lambda state: state.update({"quantize.embedding.weight": torch.ones(2, 2)}), "1 tensors are unexpected: quan"),
        (lambda state: state.update({"quant_conv.bias": torch.ones(2)}), "have another shape: quant_conv.bias"),
        (
            lambda state: state.update({"encoder.conv_in.weight": torch.ones(16)}),
            "expected encoder.conv_in.weight with 4 dim",
        ),
        (lambda state: state["quant_conv.bias"].fill_(torch.inf), "hold NaN or infinity: quant_conv.bias"),
        (lambda state: state.update({"quant_conv.bias": torch.ones(10).half()}), "tensors of one type"),
        (lambda state: state.update({"encoder.down.999999.block.0.conv2.weight": torch.ones(1)}), "expected encoder.d"),
        (
            lambda state: state.pop("encoder.down.1.block.0.conv2.weight"),
            "expected encoder.down_blocks.1.resnets.0.conv2.weight with 4 dimensions, found none",
        ),
        (lambda state: [state.pop(name) for name in list(state) if ".down." in name], "0.conv2.weight with 4 dim"),
        (lambda state: state.pop("decoder.conv_out.weight"), "expected decoder.conv_out.weight with 4 dimensions"),
    ],
)
def test_damaged_autoencoders_are_refused_and_leave_nothing(tmp_path, edit, problem):
    state = golden_state()
    edit(state)
    flat(tmp_path / "vae.pt", state)
    with pytest.raises(DitError, match=re.escape(problem)) as caught:
        convert(tmp_path / "vae.pt", tmp_path / "vae", options=ReadOptions(model=GROUPS))
    assert str(tmp_path / "vae.pt") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["vae.pt"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "--model.norm_num_groups: expected a divisor of the widths [16, 32], found 32"),
        (["--model.norm_num_groups", "8", "--model.depth", "2"], "--model.depth: an autoencoder takes --model.norm_"),
        (["--model.norm_num_groups", "8", "--vae", "mnist"], "--vae: expected it left out"),
        (["--model.norm_num_groups", "8", "--to", "original"], "expected a network, found an autoencoder"),
        (["--model.norm_num_groups", "8", "--encoder", "x"], "--encoder: expected it left out"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, capsys, arguments, problem):
    flat(tmp_path / "vae.pt", golden_state())
    target = str(tmp_path / ("out.pt" if "original" in arguments else "out"))
    assert main(["convert", str(tmp_path / "vae.pt"), target, *arguments]) == 2
    assert problem in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["vae.pt"]


def test_a_file_in_place_of_the_folder_is_told_how_to_become_one(tmp_path):
    flat(tmp_path / "vae.pt", golden_state())
    with pytest.raises(ConfigError, match=r"expected a folder, found the file .*vae\.pt; `dit convert FILE FOLDER`"):
        load_codec(str(tmp_path / "vae.pt"))
