"""From a run folder to an exported folder that stands alone."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from dit import checkpoint
from dit.charts import draw_loss
from dit.errors import DitError
from dit.run_files import read_rows
from dit.zoo.convert import convert
from dit.zoo.export import export, spread
from dit.zoo.folder.config import read_config
from dit.zoo.load import load_model
from dit.zoo.pipeline import load_pipeline
from tests.command import fails, runs
from tests.zoo.conftest import TINY, equal, random_model, write_lora_run


@pytest.fixture
def exported(tiny_run, tmp_path):
    run, ema = tiny_run
    return export(run, tmp_path / "out", samples=False), ema


def test_the_folder_holds_the_average_and_what_is_needed_to_use_it(exported):
    folder, ema = exported
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, ema.state_dict()[name])
    config = read_config(folder)
    assert config.model.name == "dit_ti_2"
    assert config.model.arguments.num_heads == 3
    assert (config.process.name, config.sampling.guidance) == ("flow", 1.5)
    assert config.latents.vae == "mnist"
    assert config.class_names == [str(i) for i in range(10)]
    assert config.provenance.model_dump() == {
        "code_version": "0.1.0+abc",
        "recipe": "recipe.yaml",
        "seed": 3,
        "data": "mnist",
        "steps": 7,
        "images_seen": 112,
    }
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "recipe.yaml", "metrics.jsonl", "loss.png", "README.md",
    }  # fmt: skip


def test_the_best_average_is_exported_where_it_is_asked_for(tiny_run, tmp_path, capsys):
    run, _ = tiny_run
    line = fails(capsys, "export", run, tmp_path / "out", "--best", code=1)
    assert "expected the best average, found none; see train.evaluate_every" in line
    best = random_model(seed=9, **TINY).state_dict()
    checkpoint.save(run / "best", 5, {"ema": best}, {"images_seen": 80, "frechet_distance": 1.0})
    runs(capsys, "export", run, tmp_path / "out", "--best")
    assert equal(load_file(tmp_path / "out" / "model.safetensors"), best)
    provenance = read_config(tmp_path / "out").provenance
    assert (provenance.steps, provenance.images_seen) == (5, 80)


def test_heads_are_left_out_and_that_is_said(tiny_run, tmp_path, capsys):
    run, ema = tiny_run
    (saved,) = (run / "checkpoints").iterdir()
    tensors = {path.stem: load_file(path) for path in saved.glob("*.safetensors")}
    checkpoint.save(run / "checkpoints", 8, tensors | {"heads": {"alignment.0.bias": torch.zeros(3)}}, {"step": 8})
    folder = export(run, tmp_path / "out", samples=False)
    assert load_file(folder / "model.safetensors").keys() == ema.state_dict().keys()
    assert f"{run}: the heads of its auxiliary losses serve training alone and are left out" in capsys.readouterr().err


def test_figures_go_with_the_weights_that_were_measured(tiny_run, exported, tmp_path):
    run, _ = tiny_run
    weights = exported[0] / "model.safetensors"
    (run / "eval.json").write_text('{"frechet_distance": 1.0}')
    assert (export(run, tmp_path / "average", samples=False) / "eval.json").is_file()
    assert not (export(run, tmp_path / "other", samples=False, weights=[weights]) / "eval.json").exists()


def test_every_source_of_the_same_weights_gives_the_same_images(tiny_run, exported):
    run, _ = tiny_run
    folder, _ = exported
    sources = [run, folder, folder / "model.safetensors", run / "checkpoints" / "step-00000007" / "ema.safetensors"]
    latents = [load_pipeline(source).sample_latents([1, 2], seed=5) for source in sources]
    for other in latents[1:]:  # the tensors lie elsewhere in each file, and MKL's sums may depend on that
        torch.testing.assert_close(other, latents[0], rtol=0, atol=1e-5)
    raw = load_pipeline(run / "checkpoints" / "step-00000007" / "model.safetensors").sample_latents([1, 2], seed=5)
    assert not torch.allclose(raw, latents[0], atol=1e-4)


def test_low_rank_updates_are_merged_for_every_reader(tiny_run, tmp_path, mnist_codec):
    _, base = tiny_run
    run = tmp_path / "lora"
    network = write_lora_run(run, base, codec=mnist_codec.describe())
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([0.3, 0.8]), torch.tensor([0, 10])
    folder, saved = export(run, tmp_path / "out"), run / "checkpoints" / "step-00000008"
    convert(run, tmp_path / "converted")
    assert load_file(folder / "model.safetensors").keys() == base.state_dict().keys()
    for source in (run, folder, tmp_path / "converted", saved / "ema.safetensors"):
        # Sums of float32 in another order.
        torch.testing.assert_close(load_model(source)(*inputs), network(*inputs), rtol=1e-4, atol=1e-5)
    raw = load_model(saved / "model.safetensors")(*inputs)
    assert not torch.allclose(raw, network(*inputs), atol=1e-3)
    other = export(run, tmp_path / "other", samples=False, weights=[saved / "ema.safetensors"])
    assert equal(load_model(other).state_dict(), load_model(folder).state_dict())
    half = load_model(run, dtype=torch.bfloat16).state_dict()
    assert equal(half, {name: value.bfloat16() for name, value in load_model(run).state_dict().items()})


def test_a_damaged_update_is_told_by_its_tensors(tiny_run, tmp_path, mnist_codec):
    _, base = tiny_run
    run = tmp_path / "lora"
    write_lora_run(run, base, codec=mnist_codec.describe())
    tensors = {path.stem: load_file(path) for path in (run / "checkpoints" / "step-00000008").glob("*.safetensors")}
    for file in ("model", "ema"):
        del tensors[file]["blocks.0.attn.qkv.lora_B.weight"]
        tensors[file]["blocks.1.attn.qkv.lora_A.weight"] = torch.zeros(2, 23)
    checkpoint.save(run / "checkpoints", 9, tensors, {"step": 9})
    with pytest.raises(
        DitError, match=r"1 tensors are missing: blocks\.0\.attn\.qkv\.lora_B\.weight.*\[2, 24\], found \[2, 23\]"
    ):
        load_model(run)


def test_the_loss_curve_is_drawn_and_on_the_card(tiny_run, tmp_path):
    run, _ = tiny_run
    folder = export(run, tmp_path / "out", samples=False)
    draw_loss(read_rows(run / "metrics.jsonl"), tmp_path / "expected.png")
    assert (folder / "loss.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert "(loss.png)" in (folder / "README.md").read_text()
    (run / "metrics.jsonl").unlink()
    assert not (export(run, tmp_path / "bare", samples=False) / "loss.png").exists()


def test_the_newest_whole_checkpoint_is_taken(tiny_run, capsys):
    run, ema = tiny_run
    newer = random_model(seed=5, **TINY)
    checkpoint.save(run / "checkpoints", 9, {"model": newer.state_dict(), "ema": newer.state_dict()}, {})
    with open(run / "checkpoints" / "step-00000009" / "ema.safetensors", "r+b") as file:
        file.truncate(100)
    model = load_model(run)
    assert re.search(r"warning: .*step-00000009.ema\.safetensors: expected \d+ bytes", capsys.readouterr().err)
    assert torch.equal(model.pos_embed, ema.pos_embed)
    assert torch.equal(model.final_layer.linear.weight, ema.final_layer.linear.weight)


def test_a_copy_of_a_users_autoencoder_goes_along(tiny_run, tmp_path):
    run, _ = tiny_run
    (run / "vae").mkdir()
    (run / "vae" / "config.json").write_text("{}")
    assert (export(run, tmp_path / "out", samples=False) / "vae" / "config.json").read_text() == "{}"


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DitError, match=r"expected a run folder, found no run\.json"):
        export(tmp_path, tmp_path / "out")


def test_a_run_without_a_checkpoint_is_refused(tiny_run, tmp_path):
    import shutil

    run, _ = tiny_run
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(DitError, match="expected a checkpoint, found none"):
        export(run, tmp_path / "out")


def test_damaged_facts_are_named(tiny_run, tmp_path):
    run, _ = tiny_run
    facts = json.loads((run / "run.json").read_text())
    del facts["id2label"]
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(DitError, match=r"run\.json: id2label: expected a value, found none"):
        export(run, tmp_path / "out")


@pytest.mark.parametrize(("num_classes", "expected"), [(0, []), (3, [0, 1, 2]), (1000, list(range(0, 1000, 100)))])
def test_classes_of_the_picture_are_spread_over_all(num_classes, expected):
    assert spread(num_classes, 10) == expected


def pretrained_run(tiny_run, source):
    run, _ = tiny_run
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("pretrained: null", f"pretrained: {source}"))
    return run


def test_a_fine_tune_inherits_the_licence_of_a_zoo_entry(tiny_run, tmp_path):
    run = pretrained_run(tiny_run, "dit_xl_2.in256")
    facts = read_config(export(run, tmp_path / "out", samples=False)).provenance
    assert facts.base_model == "facebook/DiT-XL-2-256"
    assert (facts.license, facts.base_license) == ("cc-by-nc-4.0", "cc-by-nc-4.0")


def test_a_fine_tune_inherits_the_licence_of_a_folder_and_hides_its_path(tiny_run, tmp_path):
    run, _ = tiny_run
    base = export(run, tmp_path / "base", samples=False)
    config = json.loads((base / "config.json").read_text())
    config["provenance"]["license"] = "mit"
    (base / "config.json").write_text(json.dumps(config))
    facts = read_config(export(pretrained_run(tiny_run, base), tmp_path / "out", samples=False)).provenance
    assert (facts.base_model, facts.license) == (None, "mit")
