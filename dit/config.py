"""Recipes: a YAML file, overrides of single fields, one validation."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny

from dit.data.config import DataConfig
from dit.diffusion.config import AverageVelocityConfig, FlowConfig, ImfLoss, MeanFlowLoss, ProcessConfig
from dit.errors import ConfigError
from dit.evaluation.config import EvaluationConfig
from dit.latents.config import LatentsConfig, check_encoding
from dit.models.families import arguments_of, family_of
from dit.models.family import Arguments
from dit.models.section import ModelConfig, OfAFamily, default_model
from dit.recipes import find_recipe
from dit.sampling.config import SamplingConfig, from_first_format, is_first_format
from dit.schema import Section
from dit.training.config import EmaConfig, OptimConfig, TrainConfig
from dit.training.objectives.config import ObjectiveConfig
from dit.validation import describe, set_field, validate
from dit.yaml12 import dump_yaml, read_yaml

REQUIRED = "???"
"""Stands in a recipe for a value that its user has to give."""


class Recipe(Section):
    """Everything that decides a run."""

    model: Annotated[SerializeAsAny[ModelConfig], OfAFamily()] = Field(default_factory=default_model)
    """The network."""
    process: ProcessConfig = FlowConfig()
    """The diffusion process that it learns."""
    latents: LatentsConfig = LatentsConfig()
    """The autoencoder whose latents it sees."""
    data: DataConfig = DataConfig()
    """The images and their labels."""
    train: TrainConfig = TrainConfig()
    """Length, batch, precision and cadences."""
    optim: OptimConfig = OptimConfig()
    """Optimizer and learning-rate schedule."""
    ema: EmaConfig = EmaConfig()
    """Average of the weights."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """Losses besides the process's own."""
    sampling: SamplingConfig = SamplingConfig()
    """Solver and guidance of previews and of the evaluation; the defaults of an export."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured at the end."""


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe, put the overrides into it and check the result.

    Args:
        path: YAML file, or the name of a shipped recipe.
        overrides: dotted field -> value, such as {"optim.lr": 3e-4}.

    Raises:
        ConfigError: naming the file and the field, what was expected and what was found.
    """
    data = read_recipe(path, overrides)
    return check_recipe(data, origin=str(path), overridden=overrides or ())


def read_recipe(
    path: str | Path, overrides: Mapping[str, Any] | None = None, *, complete: bool = True
) -> dict[str, Any]:
    """Read a recipe and put the overrides into it, unchecked.

    Args:
        path: YAML file, or the name of a shipped recipe.
        overrides: dotted field -> value.
        complete: whether to refuse a recipe that still lacks what its user has to give.

    Raises:
        ConfigError: there is no such recipe, it is not YAML of sections, or a value that it asks for was not given.
    """
    data = read_yaml(find_recipe(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected sections such as `model:` and `train:`, found {describe(data)}")
    # A section whose lines are all commented out reads as null.
    data = {key: {} if value is None else value for key, value in data.items()}
    if isinstance(data.get("sampling"), dict) and is_first_format(data["sampling"]):
        data["sampling"] = from_first_format(data["sampling"])
    overrides = overrides or {}
    for key in sorted(overrides, key=lambda key: key.count(".")):  # a section before its fields
        set_field(data, key, overrides[key], section=Recipe)
    for section, fields in data.items():
        for field, value in fields.items() if isinstance(fields, dict) else ():
            if complete and value == REQUIRED:
                raise ConfigError(f"{path}: {section}.{field}: this recipe needs it; add --{section}.{field} VALUE")
    return data


def check_recipe(data: Mapping[str, Any], *, origin: str = "recipe", overridden: Collection[str] = ()) -> Recipe:
    """Return the recipe that a nested dictionary of plain values describes; nothing is allocated or read for it.

    Args:
        data: sections and their fields.
        origin: what an error message calls the dictionary.
        overridden: dotted fields that a message shall call `--field`.

    Raises:
        ConfigError: naming the field, what was expected and what was found.
    """
    recipe = validate(Recipe, data, origin=origin, overridden=overridden)
    given = {**family_of(recipe.model.name).variants.get(recipe.model.name, {}), **recipe.model.overrides()}
    if recipe.model.input_size is None and "patch_size" in given:
        # The data will decide it; with a size of one patch everything else can be checked now.
        given["input_size"] = given["patch_size"]
    try:
        arguments = arguments_of(recipe.model.name, **given)
        check_encoding(recipe.data, recipe.latents.encode)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    if recipe.objective.needs_images and recipe.latents.encode == "ahead":
        raise ConfigError(
            f"{origin}: latents.encode: expected while_training, since a loss of objective.auxiliary looks at images "
            "(alignment without features), found ahead"
        )
    if recipe.objective.alignment and recipe.objective.alignment.features and recipe.data.crop == "random":
        raise ConfigError(
            f"{origin}: data.crop: expected centre, since alignment.features names cached ones, found random"
        )
    if arguments.null_class is None and recipe.sampling.guidance != 1 and recipe.sampling.guidance_routing is None:
        raise ConfigError(
            f"{origin}: sampling.guidance: expected 1, which is off, because the network has no null class "
            f"(model.class_dropout_prob {arguments.class_dropout_prob}); found {recipe.sampling.guidance}"
        )
    if isinstance(recipe.process, AverageVelocityConfig):
        _check_loss(recipe.process, arguments, origin)
    if recipe.train.shard != "none":
        _check_sharding(recipe, origin)
    return recipe


def _check_loss(process: AverageVelocityConfig, arguments: Arguments, origin: str) -> None:
    """Refuse a loss of average velocities that asks a network for what it has not."""
    loss, where = process.loss, f"{origin}: process.loss"
    is_guided = isinstance(loss, ImfLoss) or (isinstance(loss, MeanFlowLoss) and loss.guidance != 1)
    if is_guided and arguments.null_class is None:
        raise ConfigError(
            f"{where}: expected a network with a null class, which guidance needs, found model.class_dropout_prob "
            f"{arguments.class_dropout_prob}"
        )
    if isinstance(loss, ImfLoss) and not getattr(arguments, "velocity_head", False):
        raise ConfigError(f"{where}: imf: expected model.velocity_head true, of a network that has one, found none")


def _check_sharding(recipe: Recipe, origin: str) -> None:
    """Refuse what can't be done with parts of the weights."""
    where = f"{origin}: train.shard: {recipe.train.shard}"
    if recipe.optim.name.lower() not in ("adam", "adamw"):  # others look at whole matrices, or at their norms
        raise ConfigError(f"{where}: expected optim.name adamw or adam, found {recipe.optim.name}")
    if isinstance(recipe.process, AverageVelocityConfig):
        raise ConfigError(
            f"{where}: expected another process than average_velocity, whose derivative along a path takes all weights"
        )
    if recipe.train.mixed_precision == "fp16":
        raise ConfigError(f"{where}: expected train.mixed_precision bf16 or fp32, found fp16")


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe, every field written out, as YAML that `load_recipe` reads back to an equal one."""
    return dump_yaml(recipe.model_dump(mode="json"))
