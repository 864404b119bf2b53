"""Adapters: the file alone over its weights is the merged export; others' are refused; published and found again."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dit.cli import main
from dit.errors import ConfigError, DitError
from dit.zoo.export import export
from dit.zoo.folder.config import read_config
from dit.zoo.load import load_model
from dit.zoo.pipeline import load_pipeline
from dit.zoo.source import locate
from tests.command import fails, runs
from tests.hub_double import FILTERED
from tests.zoo.conftest import TINY, equal, random_model, write_lora_run, write_run

pytestmark = pytest.mark.filterwarnings(FILTERED)


@pytest.fixture(scope="module")
def parts(tmp_path_factory, mnist_codec):
    """Folders of a model, of a run that trained an adapter of it, of its export whole, and of the adapter alone."""
    top, codec = tmp_path_factory.mktemp("adapter"), mnist_codec.describe()
    network = random_model(seed=2, **TINY)
    base = export(write_run(top / "base_run", model=network, ema=network, codec=codec), top / "base")
    write_lora_run(top / "run", network, codec=codec, pretrained=str(base))
    whole = export(top / "run", top / "whole", samples=False)
    return base, top / "run", whole, export(top / "run", top / "apart", adapter=True)


def test_an_adapter_over_its_weights_is_the_merged_export(parts, tmp_path):
    base, _, whole, apart = parts
    alone = tmp_path / "elsewhere.safetensors"
    alone.write_bytes((apart / "adapter.safetensors").read_bytes())
    expected = load_file(whole / "model.safetensors")
    assert equal(load_model(apart).state_dict(), expected)
    for adapter in (apart, apart / "adapter.safetensors", alone):
        assert equal(load_pipeline(base, adapter=adapter).model.state_dict(), expected)
    assert not equal(load_model(base).state_dict(), expected)


def test_the_folder_holds_what_was_trained_alone(parts):
    base, run, whole, apart = parts
    trained = load_file(apart / "adapter.safetensors")
    assert equal(trained, load_file(run / "checkpoints" / "step-00000008" / "ema.safetensors"))
    assert not (apart / "model.safetensors").exists()
    assert (apart / "adapter.safetensors").stat().st_size < 0.3 * (whole / "model.safetensors").stat().st_size
    assert read_config(apart).adapter_of == str(base)
    assert "adapter_of" not in (whole / "config.json").read_text()
    assert (apart / "samples.png").is_file()
    assert f"dit sample {base} --adapter adapter.safetensors" in (apart / "README.md").read_text()


def test_in_half_precision_an_update_is_added_before_it_is_rounded(parts):
    base, _, whole, apart = parts
    found = load_pipeline(base, adapter=apart, dtype=torch.bfloat16).model.state_dict()
    assert equal(found, {name: value.bfloat16() for name, value in load_file(whole / "model.safetensors").items()})


def test_it_goes_over_the_same_weights_in_another_precision(parts, tmp_path):
    base, _, whole, apart = parts
    for dtype in (torch.float16, torch.bfloat16):
        folder = tmp_path / str(dtype)
        folder.mkdir()
        (folder / "config.json").write_bytes((base / "config.json").read_bytes())
        tensors = load_file(base / "model.safetensors")
        save_file({name: value.to(dtype) for name, value in tensors.items()}, folder / "model.safetensors")
        found = load_pipeline(folder, adapter=apart).model.state_dict()["blocks.0.attn.qkv.weight"]
        expected = load_file(whole / "model.safetensors")["blocks.0.attn.qkv.weight"]
        # The weight is rounded before and after: two roundings of numbers up to 1.
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=2 * torch.finfo(dtype).eps)


def test_its_own_description_goes_before_that_of_the_weights(parts, tmp_path):
    base, _, _, apart = parts
    content = json.loads((apart / "config.json").read_text())
    content["sampling"]["steps"] = 17
    folder = tmp_path / "apart"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "adapter.safetensors").write_bytes((apart / "adapter.safetensors").read_bytes())
    assert locate(base, adapter=folder).config.sampling.steps == 17
    assert locate(folder).config.adapter_of is None


def test_the_command_samples_with_it(parts, tmp_path):
    base, _, whole, apart = parts
    pictures = []
    for source, *options in ((whole,), (base, "--adapter", apart / "adapter.safetensors"), (apart,), (base,)):
        out = tmp_path / f"{len(pictures)}.png"
        assert main(["sample", str(source), *map(str, options), "--num", "2", "--out", str(out)]) == 0
        pictures.append(Image.open(out).tobytes())  # their texts name the sources
    assert pictures[0] == pictures[1] == pictures[2] != pictures[3]


def test_what_does_not_fit_is_one_line(parts, tmp_path, mnist_codec, capsys):
    base, run, whole, apart = parts
    adapter, codec = apart / "adapter.safetensors", mnist_codec.describe()
    other, wide = random_model(seed=5, **TINY), random_model(seed=5, **TINY | {"hidden_size": 48})
    others = export(write_run(tmp_path / "o", model=other, ema=other, codec=codec), tmp_path / "other", samples=False)
    wider = export(write_run(tmp_path / "w", model=wide, ema=wide, codec=codec), tmp_path / "wider", samples=False)
    for source, file, error, message in (
        (
            others,
            adapter,
            DitError,
            rf"adapter\.safetensors: expected the weights that it was trained on, {base}, found",
        ),
        (wider, adapter, DitError, rf"have another shape: .*; it is an adapter of {base}, found {wider}"),
        (base, whole / "model.safetensors", DitError, r"expected an adapter as `dit export --adapter` writes it"),
        (run, adapter, DitError, r"expected whole weights below an adapter, found updates"),
        (base, tmp_path / "nothing", ConfigError, r"--adapter: expected a \.safetensors file"),
        (base, tmp_path, ConfigError, r"--adapter: expected .*found no .*adapter\.safetensors"),
    ):
        with pytest.raises(error, match=message):
            load_pipeline(source, adapter=file)
    assert "--adapter: expected" in fails(capsys, "sample", base, "--adapter", tmp_path / "nothing")


def test_only_what_was_trained_of_other_weights_is_exported_apart(parts, tmp_path, mnist_codec):
    base, _, _, _ = parts
    network, other, codec = load_model(base), random_model(seed=5, **TINY), mnist_codec.describe()
    write_run(tmp_path / "all", model=network, ema=network, codec=codec)
    write_lora_run(tmp_path / "scratch", network, codec=codec)
    write_lora_run(tmp_path / "moved", other, codec=codec, pretrained=str(base))
    for name, message in (
        ("all", r"found optim\.trainable all, model\.pretrained None"),
        ("scratch", r"found optim\.trainable lora, model\.pretrained None"),
        ("moved", r"expected for --adapter what goes over .*, found other weights"),
    ):
        with pytest.raises(DitError, match=message):
            export(tmp_path / name, tmp_path / "out", adapter=True)
        assert not (tmp_path / "out").exists()


def test_it_is_published_and_found_again(parts, hub, tmp_path, capsys):
    base, _, whole, apart = parts
    folder = tmp_path / "apart"
    folder.mkdir()
    for path in apart.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    push = ["push", folder / "adapter.safetensors", "someone/colours", "--license", "apache-2.0"]
    message = fails(capsys, *push, code=1)
    assert "adapter_of: expected a zoo name or a Hub id, where others find the weights that the adapter" in message
    runs(capsys, "push", base, "someone/base", "--license", "apache-2.0")
    content = json.loads((folder / "config.json").read_text())
    facts = content["provenance"] | {"base_model": "someone/base"}
    (folder / "config.json").write_text(json.dumps(content | {"adapter_of": "someone/base", "provenance": facts}))
    runs(capsys, *push)
    repository = hub.repositories["someone/colours"]
    published = repository.commits[repository.refs["main"]]
    assert "adapter.safetensors" in published
    card = published["README.md"].content.decode()
    assert "base_model_relation: adapter" in card
    assert "dit sample someone/base --adapter adapter.safetensors" in card
    assert equal(load_model("someone/colours").state_dict(), load_file(whole / "model.safetensors"))
    out = runs(capsys, "pull", "someone/colours", tmp_path / "here")
    assert out[-1].endswith("here")
    assert (tmp_path / "here" / "adapter.safetensors").is_file()
