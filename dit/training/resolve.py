"""What the data, the autoencoder and the process decide in a recipe, written into it."""

from typing import Any

from dit.config import Recipe
from dit.errors import ConfigError
from dit.models.families import arguments_of, family_of


def resolve(
    recipe: Recipe, *, latent_shape: tuple[int, int, int] | None = None, num_classes: int | None = None
) -> Recipe:
    """Return the recipe with the arguments of the network decided.

    Args:
        recipe: recipe as loaded.
        latent_shape: (C, h, w) of a latent at the recipe's image size; None where the recipe says it and nobody looked.
        num_classes: classes of the data, 0 where it has no labels; None likewise.

    Raises:
        ConfigError: the recipe asks for something else than they give, or for a network that can't be built.
    """
    given = recipe.model
    size = [given.input_size] * 2 if isinstance(given.input_size, int) else given.input_size
    decided: dict[str, Any] = {"input_size": size}
    if latent_shape is not None:
        channels, *decided["input_size"] = latent_shape
        decided["in_channels"] = channels
        source = f"latents.vae {recipe.latents.vae} and data.image_size {recipe.data.image_size}"
        _check_equal("model.in_channels", given.in_channels, channels, source)
        _check_equal("model.input_size", size, decided["input_size"], source)
    if num_classes is not None:
        decided["num_classes"] = _num_classes(given.num_classes, num_classes, recipe.data.source)
    _check_equal("model.learn_sigma", given.learn_sigma, recipe.process.learn_sigma, f"process {recipe.process.name}")
    family = family_of(given.name)
    if "learn_sigma" in family.arguments.model_fields:
        decided["learn_sigma"] = recipe.process.learn_sigma
    elif recipe.process.learn_sigma:
        raise ConfigError(f"process.learn_sigma: expected false, for a {family.name} has no output for the variance")
    arguments = arguments_of(given.name, **given.model_copy(update=decided).overrides())
    decided["class_dropout_prob"] = arguments.class_dropout_prob
    return recipe.model_copy(update={"model": given.model_copy(update=decided)})


def _num_classes(given: int | None, found: int, source: str) -> int:
    if given is None or given == 0 or 0 < found <= given:
        return found if given is None else given
    expected = f"at least its {found} classes, or 0 for an unconditional model" if found else "0, for it has no labels"
    raise ConfigError(f"model.num_classes: data.source {source}: expected {expected}, found {given}")


def _check_equal(field: str, given: Any, decided: Any, source: str) -> None:
    if given is not None and given != decided:
        raise ConfigError(f"{field}: expected {decided}, which follows from {source}, found {given}; leave it out")
