"""Conversions between layouts: the goldens' outputs, round trips bit for bit, and row C7."""

import argparse
import json
import resource

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dit.cli import main
from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.errors import ConfigError, DitError
from dit.models.dit.layouts import DIFFUSERS
from dit.zoo.convert import convert
from dit.zoo.folder.config import read_config
from dit.zoo.layouts.original import ReadOptions
from dit.zoo.layouts.table import from_native
from dit.zoo.load import load_model
from dit.zoo.pipeline import load_pipeline
from tests.goldens import FOLDER, assert_close, load_tensors
from tests.zoo.conftest import TINY, equal, random_model, write_run

HEADS = {"model": {"num_heads": 4}}


def golden_state(name):
    return {key.removeprefix("state."): value for key, value in load_tensors(name).items() if key.startswith("state.")}


def golden_config(name):
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        return json.loads(file.metadata()["config"])


def flat(path, state):
    torch.save(state, path)


def training_checkpoint(path, state):
    raw = {name: torch.randn_like(tensor) for name, tensor in state.items()}
    args = argparse.Namespace(model="DiT-XL/2", image_size=256, vae="ema", global_seed=0)
    torch.save({"model": raw, "ema": state, "opt": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "args": args}, path)


def wrapped_checkpoint(path, state):
    torch.save({"ema": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}}, path)


def safetensors_file(path, state):
    save_file(state, path)


def diffusers_transformer(path, state):
    path.mkdir()
    save_file(from_native({name: t for name, t in state.items() if name != "pos_embed"}, DIFFUSERS),
              path / "diffusion_pytorch_model.safetensors")  # fmt: skip
    config = golden_config("dit_p2_sigma")
    (path / "config.json").write_text(json.dumps({
        "_class_name": "Transformer2DModel", "num_attention_heads": config["num_heads"], "sample_size": 8,
        "norm_type": "ada_norm_zero", "attention_head_dim": 12,
    }))  # fmt: skip


@pytest.mark.parametrize(
    "write", [flat, training_checkpoint, wrapped_checkpoint, safetensors_file, diffusers_transformer]
)
def test_every_layout_of_the_original_gives_the_goldens_outputs(tmp_path, write):
    write(tmp_path / "source", golden_state("dit_p2_sigma"))
    options = ReadOptions() if write is diffusers_transformer else ReadOptions(process="gaussian", **HEADS)
    convert(tmp_path / "source", tmp_path / "native", options=options)
    golden = load_tensors("dit_p2_sigma")
    model = load_model(tmp_path / "native")
    with torch.no_grad():
        assert_close(model(golden["x"], golden["t"], golden["y"]), golden["out"], 2e-6)
    config = read_config(tmp_path / "native")
    assert config.process == GaussianConfig(learn_sigma=True)
    assert config.num_classes == 7


def sit_training_checkpoint(path, state):
    args = argparse.Namespace(model="SiT-S/2", path_type="Linear", prediction="velocity", vae="ema")
    torch.save({"model": state, "ema": state, "opt": {}, "args": args}, path)


def repa_checkpoint(path, state):
    args = argparse.Namespace(model="SiT-S/2", path_type="linear", prediction="v", enc_type="dinov2-vit-b")
    ema = state | {"projectors.0.0.weight": torch.zeros(3, 3), "projectors.0.0.bias": torch.zeros(3)}
    torch.save({"model": ema, "ema": ema, "opt": {}, "args": args, "steps": 400_000}, path)


def test_a_sit_gives_the_goldens_velocity_in_our_time(tmp_path):
    sit_training_checkpoint(tmp_path / "source.pt", golden_state("sit_linear_velocity"))
    convert(tmp_path / "source.pt", tmp_path / "native", options=ReadOptions(vae="mnist", **HEADS))
    pipe = load_pipeline(tmp_path / "native")
    golden = load_tensors("sit_linear_velocity")
    ours = (1 - golden["t"]).double()  # theirs runs from noise to data
    with torch.no_grad():
        output = pipe.model(golden["x_t"], pipe.process.model_time(ours), golden["y"])
    velocity, _ = pipe.process.split(output)
    assert_close(velocity, -golden["out"][:, :4], 2e-5)  # noise - data, where theirs is data - noise
    target = golden["noise"] - golden["data"]
    losses = pipe.process.losses(pipe.model, golden["data"], golden["y"], noise=golden["noise"], u=ours)
    assert_close(target, -golden["target"], 1e-6)
    assert_close(losses.loss, golden["loss"], 2e-5)


def test_a_repa_runs_forward_and_drops_its_projector(tmp_path):
    state = golden_state("sit_linear_velocity")
    repa_checkpoint(tmp_path / "source.pt", state)
    notices = convert(tmp_path / "source.pt", tmp_path / "native", options=ReadOptions(**HEADS))
    assert "2 tensors that are no part of the model were left out: projectors.* (2)" in notices
    config = read_config(tmp_path / "native")
    assert config.process == FlowConfig(time_scale=1.0, time_offset=0.0, output_sign=1, learn_sigma=True)
    assert load_file(tmp_path / "native" / "model.safetensors").keys() == state.keys()
    golden = load_tensors("sit_linear_velocity")
    with torch.no_grad():
        output = load_model(tmp_path / "native")(golden["x_t"], golden["t"], golden["y"])
    assert_close(output[:, :4], golden["out"][:, :4], 2e-5)  # raw t, not reversed


def test_the_raw_weights_are_read_on_request(tmp_path):
    state = golden_state("dit_p2_sigma")
    training_checkpoint(tmp_path / "source.pt", state)
    convert(tmp_path / "source.pt", tmp_path / "raw", options=ReadOptions(weights="raw", **HEADS))
    assert not torch.equal(load_file(tmp_path / "raw" / "model.safetensors")["pos_embed"], state["pos_embed"])


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_that_are_not_there_are_replaced_with_a_notice(tmp_path, key):
    torch.save({key: golden_state("dit_p2_sigma")}, tmp_path / "source.pt")
    notices = convert(tmp_path / "source.pt", tmp_path / "native", options=ReadOptions(process="gaussian", **HEADS))
    assert f"source.pt has no ema weights; its {key!r} was taken" in notices
    assert read_config(tmp_path / "native").provenance.weights == "raw"
    assert "own, not averaged" in (tmp_path / "native" / "README.md").read_text()


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def gaussian_folder(request, tmp_path, mnist_codec):
    """An exported folder of a Gaussian model of 10 classes."""
    model = random_model(**TINY | {"learn_sigma": True}).to(request.param)
    sampling = {"solver": "ddim", "steps": 3, "guidance": 2.0}
    run = write_run(tmp_path / "run", model=model, ema=model, codec=mnist_codec.describe(), sampling=sampling,
                    process={"name": "gaussian"}, class_names=[f"digit {i}" for i in range(10)])  # fmt: skip
    from dit.zoo.export import export

    return export(run, tmp_path / "exported", samples=False)


@pytest.mark.parametrize(
    "path", [["original.safetensors"], ["original.pt"], ["diffusers"], ["original.pt", "n", "diffusers"]]
)
def test_there_and_back_again_is_bit_identical(gaussian_folder, tmp_path, path):
    before = load_file(gaussian_folder / "model.safetensors")
    source = gaussian_folder
    for step in [*path, "native"]:
        options = ReadOptions()
        if str(source).endswith(".pt"):
            options = ReadOptions(process="gaussian", model={"num_heads": 3}, vae="mnist")
        to = {"o": "original", "d": "diffusers", "n": "native"}[step[0]]
        convert(source, tmp_path / step, to=to, options=options)
        source = tmp_path / step
    assert equal(load_file(tmp_path / "native" / "model.safetensors"), before)
    assert read_config(tmp_path / "native").model.arguments == read_config(gaussian_folder).model.arguments
    assert read_config(tmp_path / "native").process == GaussianConfig()


@pytest.mark.parametrize(
    ("to", "name"), [("native", "n"), ("diffusers", "d"), ("original", "o.safetensors"), ("original", "o.pt")]
)
def test_a_full_disk_is_one_line_and_leaves_nothing(gaussian_folder, tmp_path, capsys, to, name):
    """A limit on the size of files stands for the disk: the system call that writes fails in the same way."""
    (tmp_path / "out").mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert main(["convert", str(gaussian_folder), str(tmp_path / "out" / name), "--to", to]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "File too large" in message
    assert not list((tmp_path / "out").iterdir())


def test_a_safetensors_file_of_the_original_layout_keeps_the_whole_description(gaussian_folder, tmp_path):
    convert(gaussian_folder, tmp_path / "x.safetensors", to="original")
    convert(tmp_path / "x.safetensors", tmp_path / "native")
    assert read_config(tmp_path / "native") == read_config(gaussian_folder)
    flat_names = load_file(tmp_path / "x.safetensors").keys()
    assert "blocks.1.adaLN_modulation.1.weight" in flat_names


def test_a_pt_file_warns_of_what_it_cannot_hold(tiny_run, tmp_path):
    run, _ = tiny_run
    notices = convert(run, tmp_path / "x.pt", to="original")
    assert any("differs from the original's in time_scale, time_offset, output_sign" in notice for notice in notices)


def test_a_foreign_diffusers_folder_comes_back_as_it_was(gaussian_folder, tmp_path):
    convert(gaussian_folder, tmp_path / "a", to="diffusers")
    convert(tmp_path / "a", tmp_path / "native")
    convert(tmp_path / "native", tmp_path / "b", to="diffusers")
    for name in ("transformer", "vae"):
        file = f"{name}/diffusion_pytorch_model.safetensors"
        assert equal(load_file(tmp_path / "a" / file), load_file(tmp_path / "b" / file))
    for name in ("model_index.json", "transformer/config.json", "scheduler/scheduler_config.json"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()


def test_shards_are_written_and_read(gaussian_folder, tmp_path):
    before = load_file(gaussian_folder / "model.safetensors")
    convert(gaussian_folder, tmp_path / "sharded", max_shard_size="50KB")
    names = sorted(path.name for path in (tmp_path / "sharded").glob("*.safetensors"))
    assert len(names) > 1
    assert (tmp_path / "sharded" / "model.safetensors.index.json").is_file()
    assert equal(dict(load_model(tmp_path / "sharded").state_dict()), before)
    convert(gaussian_folder, tmp_path / "d", to="diffusers", max_shard_size="50KB")
    assert len(list((tmp_path / "d" / "transformer").glob("*.safetensors"))) > 1
    convert(tmp_path / "d", tmp_path / "again")
    assert equal(load_file(tmp_path / "again" / "model.safetensors"), before)


def test_a_users_autoencoder_goes_along(tmp_path, mnist_codec):
    mnist_codec.folder.copy(tmp_path / "my_vae")
    flat(tmp_path / "source.pt", golden_state("dit_p2_sigma"))
    options = ReadOptions(process="gaussian", vae=str(tmp_path / "my_vae"), **HEADS)
    convert(tmp_path / "source.pt", tmp_path / "native", options=options)
    convert(tmp_path / "native", tmp_path / "diffusers", to="diffusers")
    (tmp_path / "my_vae").rename(tmp_path / "gone")
    assert read_config(tmp_path / "native").latents.vae == "vae"
    assert len(load_pipeline(tmp_path / "native")([1], steps=2)) == 1
    notices = convert(tmp_path / "native", tmp_path / "x.safetensors", to="original")
    assert any("autoencoder is not part of a single file" in notice for notice in notices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"process": "edm", **HEADS}, "--process: expected gaussian or flow or repa, found edm"),
        ({}, "source.pt: --model.num_heads: expected it to be given; the tensors do not tell it"),
        ({"model": {"num_heads": 5}}, "model.num_heads: expected a divisor of hidden_size 48, found 5"),
        ({"vae": "mnits", **HEADS}, "Did you mean 'mnist'"),
    ],
)
def test_what_a_file_does_not_tell_is_asked_for(tmp_path, options, message):
    flat(tmp_path / "source.pt", golden_state("dit_p2_sigma"))
    with pytest.raises(ConfigError) as caught:
        convert(tmp_path / "source.pt", tmp_path / "native", options=ReadOptions(**options))
    assert message in str(caught.value)
    assert not (tmp_path / "native").exists()


def test_a_process_that_is_not_told_is_the_familys_default(tmp_path):
    flat(tmp_path / "source.pt", golden_state("dit_p2_sigma"))
    notices = convert(tmp_path / "source.pt", tmp_path / "native", options=ReadOptions(**HEADS))
    others = "--process flow for a SiT or --process repa for a REPA"
    assert f"its process is not told, and taken to be gaussian, that of a DiT; give {others}" in notices
    assert read_config(tmp_path / "native").process == GaussianConfig(learn_sigma=True)


def test_an_option_against_what_the_file_tells_is_refused(tmp_path, gaussian_folder):
    training_checkpoint(tmp_path / "source.pt", golden_state("dit_p2_sigma"))
    with pytest.raises(ConfigError, match=r"--process: expected gaussian, as source\.pt tells, found flow"):
        convert(tmp_path / "source.pt", tmp_path / "native", options=ReadOptions(process="flow", **HEADS))
    with pytest.raises(ConfigError, match="--model: expected it left out"):
        convert(gaussian_folder, tmp_path / "native", options=ReadOptions(model={"num_heads": 3}))


@pytest.mark.parametrize(("key", "value"), [("path_type", "GVP"), ("prediction", "score")])
def test_another_flow_than_the_published_one_is_refused(tmp_path, key, value):
    args = argparse.Namespace(**{"model": "SiT-S/2", "path_type": "Linear", "prediction": "velocity", key: value})
    torch.save({"ema": golden_state("sit_linear_velocity"), "args": args}, tmp_path / "source.pt")
    with pytest.raises(DitError, match=f"args.{key}: expected .*, as a SiT was published, found '{value}'"):
        convert(tmp_path / "source.pt", tmp_path / "native", options=ReadOptions(**HEADS))


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "blocks.1.attn.qkv.bias"), r"1 tensors are missing: blocks\.1\.attn\.qkv\.bias"),
        (lambda s: s | {"pos_embed": s["pos_embed"] * torch.nan}, r"NaN or infinity: pos_embed"),
        (lambda s: s | {"pos_embed": s["pos_embed"].double()}, r"expected tensors of one type"),
        (lambda s: s | {"step": 3}, r"expected tensors only, found step"),
        (lambda s: {"conv.weight": torch.zeros(1)}, r"expected the names of .*DiT or SiT, found conv"),
        (lambda s: [1, 2], r"expected a dictionary of tensors, found list"),
    ],
)  # fmt: skip
def test_c7_what_does_not_fit_is_named(tmp_path, change, message):
    torch.save(change(golden_state("dit_p2_sigma")), tmp_path / "source.pt")
    with pytest.raises(DitError, match=message) as caught:
        convert(tmp_path / "source.pt", tmp_path / "native", options=ReadOptions(process="gaussian", **HEADS))
    assert "source.pt" in str(caught.value)
    assert not (tmp_path / "native").exists()


def test_the_description_inside_a_file_is_checked(tmp_path):
    metadata = {"dit_config": '{"format_version": 1, "model": 3}'}
    save_file(golden_state("dit_p2_sigma"), tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(DitError, match="metadata dit_config: model: expected"):
        convert(tmp_path / "x.safetensors", tmp_path / "native")


def test_targets_are_checked_before_anything_is_read(tmp_path):
    (tmp_path / "there.pt").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"expected a file ending in \.safetensors or \.pt"):
        convert("nothing", tmp_path / "folder", to="original")
    with pytest.raises(ConfigError, match="expected a new file, found one"):
        convert("nothing", tmp_path / "there.pt", to="original")
    with pytest.raises(ConfigError, match="--max_shard_size: expected it left out"):
        convert("nothing", tmp_path / "x.pt", to="original", max_shard_size="1GB")


def test_a_bad_shard_size_is_named(gaussian_folder, tmp_path):
    with pytest.raises(ConfigError, match="--max_shard_size: expected a size such as 5GB, found 'large'"):
        convert(gaussian_folder, tmp_path / "x", max_shard_size="large")
