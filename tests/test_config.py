import time
from pathlib import Path

import pytest

from dit.config import Recipe, check_recipe, dump_recipe, load_recipe, read_recipe
from dit.diffusion.config import FlowConfig, UniformTime, UniformWeighting
from dit.errors import ConfigError
from dit.recipes import header, list_recipes
from dit.validation import dotted_fields

RECIPES = list_recipes()


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("model:\n  name: dit_ti_2\noptim:\n  lr: 1e-3\n")
    return path


def message(path, overrides=None):
    with pytest.raises(ConfigError) as error:
        load_recipe(path, overrides)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_survives_a_round_trip(name, tmp_path):
    recipe = check_recipe(read_recipe(name, complete=False))
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_recipe(recipe))
    assert check_recipe(read_recipe(copy, complete=False)) == recipe
    assert name == "finetune" or name.startswith(recipe.model.name)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_how_to_run_it_and_what_to_expect(name):
    text = "\n".join(header(RECIPES[name]))
    assert f"dit train {name}" in text
    assert "\nHardware: " in text
    assert "\nExpected" in text


def test_what_a_recipe_asks_for_has_to_be_given():
    line = message("dit_s_2_folder")
    assert line == "dit_s_2_folder: data.source: this recipe needs it; add --data.source VALUE"
    assert load_recipe("dit_s_2_folder", {"data.source": "images"}).data.source == "images"


@pytest.mark.parametrize(
    ("stem", "size"),
    [("dit_xl_2_imagenet256", 256), ("dit_xl_2_imagenet512", 512), ("dit_xl_2_imagenet256_flow", 256)],
)
def test_the_imagenet_recipes_hold_the_published_hyperparameters(stem, size):
    recipe = load_recipe(stem)
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.betas) == ("adamw", 1e-4, (0.9, 0.999))
    assert (recipe.optim.weight_decay, recipe.optim.warmup_steps, recipe.optim.max_grad_norm) == (0, 0, None)
    assert (recipe.optim.schedule, recipe.train.batch_size, recipe.ema.decay) == ("constant", 256, 0.9999)
    assert (recipe.data.image_size, recipe.data.flip, recipe.model.class_dropout_prob) == (size, True, 0.1)
    assert (recipe.model.input_size, recipe.model.num_classes) == (size // 8, 1000)
    assert recipe.latents.vae == "stabilityai/sd-vae-ft-ema"
    if stem.endswith("flow"):
        assert recipe.process == FlowConfig(schedule="linear", prediction="velocity", time_law=UniformTime())
        assert recipe.process.weighting == UniformWeighting()
        assert (recipe.train.max_steps, recipe.ema.warmup) == (7_000_000, False)
        assert (recipe.sampling.solver.name, recipe.sampling.steps) == ("euler_maruyama", 250)
    else:
        assert (recipe.process.name, recipe.process.betas, recipe.process.num_steps) == ("gaussian", "linear", 1000)


def test_every_field_has_a_sentence():
    assert [name for name, field in dotted_fields(Recipe) if not field.description] == []


def test_a_section_without_fields_is_the_default(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("train:\n  # max_steps: 3\n")
    assert load_recipe(path) == Recipe()
    assert load_recipe(path, {"train.max_steps": 3}).train.max_steps == 3


def test_k1_an_unknown_key_names_the_nearest_dotted_one(recipe_file):
    assert message(recipe_file, {"optim.lrr": 1}) == "--optim.lrr: unknown key. Did you mean 'optim.lr'?"
    recipe_file.write_text("train:\n  max_step: 3\n")
    assert message(recipe_file) == f"{recipe_file}: train.max_step: unknown key. Did you mean 'train.max_steps'?"


def test_k2_a_wrong_type_names_field_expectation_and_finding(recipe_file):
    assert message(recipe_file, {"optim.lr": "1e-4"}) == "--optim.lr: expected a number, found '1e-4' (text)"
    recipe_file.write_text("train:\n  max_steps: 1.5\n")
    assert message(recipe_file) == f"{recipe_file}: train.max_steps: expected an integer, found 1.5 (a number)"


def test_k3_sizes_that_do_not_divide_are_both_named(recipe_file):
    line = message(recipe_file, {"model.num_heads": 5})
    assert "model.num_heads" in line
    assert "192" in line
    assert "5" in line
    line = message(recipe_file, {"model.patch_size": 3, "model.input_size": 32})
    assert "patch_size 3" in line
    assert "32" in line


def test_a_patch_that_does_not_divide_the_default_latent_waits_for_the_data(recipe_file):
    assert load_recipe(recipe_file, {"model.patch_size": 3}).model.patch_size == 3


@pytest.mark.parametrize("field", ["depth", "hidden_size", "num_heads", "num_classes", "in_channels"])
def test_k4_an_absurd_size_is_refused_before_allocation(recipe_file, field):
    start = time.process_time()
    assert "1000000000" in message(recipe_file, {f"model.{field}": 10**9})
    assert time.process_time() - start < 1


def test_k5_a_python_tag_is_refused(recipe_file, tmp_path):
    sentinel = tmp_path / "sentinel"
    recipe_file.write_text(f"model: !!python/object/apply:os.system ['touch {sentinel}']\n")
    assert message(recipe_file).startswith(f"{recipe_file}:1: the tag")
    assert not sentinel.exists()


def test_k6_a_repeated_key_is_refused_with_both_lines(recipe_file):
    recipe_file.write_text("train:\n  seed: 1\n  max_steps: 3\n  seed: 2\n")
    assert message(recipe_file) == f"{recipe_file}:4: the key 'seed' stands on line 2 already; keep one"


def test_k7_an_unknown_model_names_near_ones(recipe_file):
    assert "Did you mean 'dit_xl_2'" in message(recipe_file, {"model.name": "dit_xll_2"})


@pytest.mark.parametrize("recipe", ["dit_ti_2_mnis", "configs/dit_ti_2_mnis.yaml"])
def test_a_missing_recipe_names_near_ones(recipe):
    assert message(recipe).endswith("found neither. Did you mean 'dit_ti_2_mnist'?")


def test_a_file_is_taken_before_a_shipped_recipe_and_a_folder_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dit_ti_2_mnist").mkdir()
    assert load_recipe("dit_ti_2_mnist").train.max_steps == 2300
    Path("dit_ti_2_mnist").rmdir()
    Path("dit_ti_2_mnist").write_text("train:\n  max_steps: 3\n")
    assert load_recipe("dit_ti_2_mnist").train.max_steps == 3


@pytest.mark.parametrize("text", ["- 1\n", "hello\n", ""])
def test_a_file_without_sections_is_refused(recipe_file, text):
    recipe_file.write_text(text)
    assert "expected sections" in message(recipe_file)


def test_an_override_below_a_value_is_refused(recipe_file):
    assert message(recipe_file, {"optim.lr.x": 1}).startswith("--optim.lr.x: optim.lr holds 0.001 (a number)")


def test_guidance_without_a_null_class_is_refused(recipe_file):
    overrides = {"model.class_dropout_prob": 0.0, "sampling.guidance": 2.0}
    assert "sampling.guidance: expected 1" in message(recipe_file, overrides)
    assert load_recipe(recipe_file, overrides | {"model.num_classes": 0}).sampling.guidance == 2.0
