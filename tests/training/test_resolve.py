import pytest

from dit.config import check_recipe
from dit.errors import ConfigError
from dit.training.resolve import resolve


def resolved(**model):
    return resolve(check_recipe({"model": {"name": "dit_ti_2"} | model}), latent_shape=(4, 8, 12), num_classes=10).model


def test_what_is_left_out_is_decided_by_data_and_autoencoder():
    model = resolved()
    assert (model.in_channels, model.input_size, model.num_classes, model.learn_sigma) == (4, [8, 12], 10, False)


def test_the_process_decides_about_the_variance():
    recipe = check_recipe({"process": {"name": "gaussian"}})
    assert resolve(recipe, latent_shape=(4, 8, 8), num_classes=10).model.learn_sigma


@pytest.mark.parametrize("num_classes", [0, 10, 1000])
def test_an_unconditional_model_and_one_with_more_classes_are_possible(num_classes):
    assert resolved(num_classes=num_classes).num_classes == num_classes


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"in_channels": 3}, "model.in_channels: expected 4, which follows from latents.vae"),
        ({"input_size": 8}, "model.input_size: expected [8, 12]"),
        ({"num_classes": 9}, "model.num_classes: data.source mnist: expected at least its 10 classes"),
        ({"learn_sigma": True}, "model.learn_sigma: expected False, which follows from process flow"),
        ({"patch_size": 3}, "model.input_size: expected multiples of patch_size 3, found 8x12"),
    ],
)
def test_what_contradicts_them_is_refused(model, words):
    with pytest.raises(ConfigError) as error:
        resolved(**model)
    assert str(error.value).startswith(words)


def test_classes_without_labels_are_refused():
    with pytest.raises(ConfigError, match="expected 0, for it has no labels, found 3"):
        resolve(check_recipe({"model": {"num_classes": 3}}), latent_shape=(4, 8, 8), num_classes=0)


def test_what_nobody_looked_at_stays_as_the_recipe_says():
    recipe = check_recipe({"model": {"input_size": 32, "in_channels": 4, "num_classes": 5}})
    model = resolve(recipe).model
    assert (model.input_size, model.in_channels, model.num_classes) == ([32, 32], 4, 5)
