"""Files as the families' authors publish them: wrappers, weights left out, the process and the sampling of each."""

import argparse
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from dit.diffusion.config import AverageVelocityConfig, EdmConfig, FlowConfig, GaussianConfig, LogitNormalTime
from dit.errors import ConfigError, DitError
from dit.latents.codec import Codec
from dit.models.families import FAMILIES, arguments_of
from dit.sampling.config import SamplingConfig
from dit.zoo.convert import convert
from dit.zoo.layouts.original import ReadOptions, published_process, read_state_file
from dit.zoo.layouts.original_file import write_original
from tests.goldens import assert_close
from tests.latents.conftest import small_kl
from tests.models.test_goldens import GIVEN, load
from tests.zoo.conftest import equal

LAYOUTS = [(family, layout) for family in FAMILIES.values() for layout in family.layouts if not layout.refused]


def state_of(name):
    return {key.removeprefix("state."): value for key, value in load(name)[0].items() if key.startswith("state.")}


@pytest.mark.parametrize(("family", "layout"), LAYOUTS, ids=[layout.name for _, layout in LAYOUTS])
def test_every_layout_names_a_process_and_a_sampling_that_there_are(family, layout):
    arguments = arguments_of(next(iter(family.variants)))
    assert layout.trained_for
    for entry in layout.trained_for:
        assert published_process(layout, entry.name, arguments) is not None
    SamplingConfig.model_validate(layout.sampling)


@pytest.mark.parametrize(
    ("name", "process"),
    {
        "lightningdit": FlowConfig(time_scale=-1, time_offset=1, output_sign=-1, time_law=LogitNormalTime()),
        "rae_dit": FlowConfig(time_scale=1, time_law=LogitNormalTime(largest=0.999, shift=48**0.5)),
        "meanflow": AverageVelocityConfig(),
        "imeanflow": AverageVelocityConfig(condition="h"),
        "pmf": AverageVelocityConfig(condition="h", time_law=LogitNormalTime(mean=0.8, scale=0.8)),
        "mdt": GaussianConfig(),
        "uvit": FlowConfig(schedule="vp_linear", prediction="eps", time_scale=999),
        "maskdit": EdmConfig(),
        "repae": FlowConfig(time_scale=1),
    }.items(),
)
def test_a_flat_file(name, process, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(state_of(name), path)
    assert read_state_file(path, ReadOptions(model=GIVEN[name])).config.process == process


# Name of the golden -> what of it is no part of the network.
LEFT_OUT = {
    "lightningdit": "*feat_rope.freqs_* (2)",
    "lightningdit_options": "*feat_rope.freqs_* (2)",
    "rae_dit": "*feat_rope.freqs_* (2)",
    "rae_ditdh": "*feat_rope.freqs_* (4)",
    "mdt": "*.relative_position_index (5)",
    "mdtv2": "*.relative_position_index (7)",
    "repa": "projectors.* (6)",
    "repae": "bn.* (3), projectors.* (6)",
}


@pytest.mark.parametrize("name", GIVEN)
def test_there_and_back_again_is_bit_identical(name, tmp_path):
    path, wrapper = tmp_path / "published.pt", "net." if name == "jit" else ""  # the golden's is taken off already
    state = {wrapper + key: value for key, value in state_of(name).items()}
    torch.save(state, path)
    model = read_state_file(path, ReadOptions(model=GIVEN[name]))
    left_out = [notice.partition(" left out: ")[2] for notice in model.notices if " left out: " in notice]
    assert left_out == [LEFT_OUT[name]] if name in LEFT_OUT else not left_out
    write_original(model, tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert equal(back, {key: state[key] for key in back})
    assert len(state) - len(back) == sum(map(int, re.findall(r"\((\d+)\)", "".join(left_out))))
    again = read_state_file(tmp_path / "back.safetensors", ReadOptions())
    assert (equal(again.tensors, model.tensors), again.config) == (True, model.config)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state, key: state.pop(key), "1 tensors are missing: "),
        (lambda state, key: state.update({key: state[key][..., :-1].contiguous()}), "1 tensors have another shape: "),
        (lambda state, key: state[key].fill_(torch.nan), "1 tensors hold NaN or infinity: "),
        (lambda state, key: state.update({f"{key}_2": torch.ones(1)}), "1 tensors are unexpected: "),
    ],
    ids=["missing", "another shape", "NaN", "unexpected"],
)
def test_damaged_weights_are_refused_and_leave_nothing(name, damage, message, tmp_path):
    path, state = tmp_path / "weights.pt", state_of(name)
    key = next(key for key in reversed(state) if "attn.proj.bias" in key or "attn.out_proj" in key)
    damage(state, key)
    torch.save(state, path)
    with pytest.raises(DitError, match=rf"^{path}: (state dict: )?{message}[\w.]*attn.(proj|out_proj)") as error:
        convert(path, tmp_path / "native", options=ReadOptions(model=GIVEN[name]))
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_that_end_early_are_refused(name, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pt" else save_file)(state_of(name), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DitError, match=f"^{path}: "):
        convert(path, tmp_path / "native", options=ReadOptions(model=GIVEN[name]))


def test_the_huge_u_vit_is_told_by_its_missing_convolution(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({key: value for key, value in state_of("uvit").items() if "final_layer" not in key}, path)
    config = read_state_file(path, ReadOptions(model=GIVEN["uvit"])).config
    assert config.process == GaussianConfig(betas="scaled_linear", first_step=1, learn_sigma=False)


def test_a_checkpoint_of_jit_holds_averaged_weights_and_its_size(tmp_path):
    path, state = tmp_path / "checkpoint-last.pth", {f"net.{key}": value for key, value in state_of("jit").items()}
    raw = {key: value + 1 for key, value in state.items()}
    torch.save({"model": raw, "model_ema1": state, "args": argparse.Namespace(model="JiT-B/32")}, path)
    model = read_state_file(path, ReadOptions(model=GIVEN["jit"]))
    assert torch.equal(model.tensors["in_context_posemb"], state["net.in_context_posemb"])
    assert isinstance(model.config.process, FlowConfig)
    assert model.config.process.noise_scale == 2


def test_a_checkpoint_of_ddt_holds_both_weights_under_one_key(tmp_path):
    path, state = tmp_path / "model.ckpt", state_of("ddt")
    both = {f"ema_denoiser.{key}": value for key, value in state.items()}
    both |= {f"denoiser.{key}": value + 1 for key, value in state.items()}
    torch.save({"state_dict": both | {"diffusion_trainer.proj.0.0.weight": torch.ones(2, 2)}}, path)
    for weights, difference in (("ema", 0), ("raw", 1)):
        model = read_state_file(path, ReadOptions(weights=weights, model=GIVEN["ddt"]))
        assert all(torch.equal(model.tensors[key], value + difference) for key, value in state.items())
        assert model.config.provenance.weights == weights
        assert not any("weights; its" in notice for notice in model.notices)
    with pytest.raises(ConfigError, match="input_size: expected it to be given"):
        read_state_file(path, ReadOptions(model={"encoder_depth": 3}))


@pytest.mark.parametrize(("name", "left_out"), [("imeanflow", "net.v_heads."), ("pmf", "net.v_")])
def test_inference_files_lack_the_second_head(name, left_out, tmp_path):
    path = tmp_path / "model.pth"
    state = {key: value for key, value in state_of(name).items() if not key.startswith(left_out)}
    torch.save(state | ({"net.rope_freqs": torch.ones(16, 6, dtype=torch.complex64)} if name == "pmf" else {}), path)
    arguments = read_state_file(path, ReadOptions(model=GIVEN[name])).config.model.arguments
    assert not getattr(arguments, "velocity_head")  # noqa: B009 - of this family alone


def test_the_blocks_of_repas_first_versions_are_counted_on(tmp_path):
    path, state = tmp_path / "last.pt", state_of("repa")
    old = {key.replace("blocks.2.", "decoder_blocks.0."): value for key, value in state.items()}
    assert old.keys() != state.keys()
    torch.save({"ema": old, "args": argparse.Namespace(model="SiT-XL/2", path_type="linear", prediction="v")}, path)
    model = read_state_file(path, ReadOptions(model=GIVEN["repa"]))
    network = {key: value for key, value in state.items() if not key.startswith("projectors.")}
    assert model.config.model.arguments.depth == 3
    assert equal(model.tensors, network)
    assert model.config.process == FlowConfig(time_scale=1)


@pytest.fixture
def autoencoder_of_6_channels(tmp_path):
    small_kl(latent_channels=6).save_pretrained(tmp_path / "vae")
    return str(tmp_path / "vae")


def test_the_batch_norm_of_repa_e_normalises_its_latents(tmp_path, autoencoder_of_6_channels):
    path, golden = tmp_path / "0400000.pt", load("repae")[0]
    torch.save({"ema": state_of("repae")}, path)
    model = read_state_file(path, ReadOptions(model=GIVEN["repae"], vae=autoencoder_of_6_channels))
    codec = Codec.from_description(model.config.latents, folder=tmp_path)
    # No eps beside the variance; both multiply and add once, in float32.
    assert_close(codec.denormalise(golden["sampled_euler"]), golden["sampled_latent"], 1e-6)
    assert "its latents are normalised by bn.running_mean and bn.running_var" in model.notices
    assert read_state_file(path, ReadOptions(model=GIVEN["repae"])).config.latents is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bn.running_var": None}, "1 tensors are missing: bn.running_var"),
        ({"bn.running_mean": torch.zeros(4)}, "1 tensors have another shape: bn.running_mean"),
        ({"bn.running_mean": torch.full((6,), torch.nan)}, "1 tensors hold NaN or infinity: bn.running_mean"),
        ({"bn.running_var": torch.zeros(6)}, "bn.running_var: expected positive numbers, found 0"),
    ],
)
def test_a_batch_norm_that_normalises_nothing_is_refused(tmp_path, autoencoder_of_6_channels, change, message):
    path = tmp_path / "0400000.pt"
    torch.save({key: value for key, value in (state_of("repae") | change).items() if value is not None}, path)
    with pytest.raises(DitError, match=f"^{path}: {message}"):
        read_state_file(path, ReadOptions(model=GIVEN["repae"], vae=autoencoder_of_6_channels))
