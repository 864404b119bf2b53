"""The arguments of a network from the shapes of its tensors, and from what the user adds. Free of torch."""

from collections.abc import Mapping
from typing import Any

from dit.errors import ConfigError
from dit.models.families import arguments_of
from dit.models.family import Family
from dit.models.layout import Shapes
from dit.models.section import section_of
from dit.validation import validate
from dit.zoo.folder.config import ModelDescription


def describe_network(family: Family, shapes: Shapes, given: Mapping[str, Any]) -> ModelDescription:
    """Return which network has these tensors.

    Args:
        family: whose names they are.
        shapes: shape of every tensor, named as ours.
        given: what the user adds, `--model.ARGUMENT`; its `name` is the variant, of several with the same shapes.

    Returns:
        The first variant that the shapes allow and its arguments; where there is none, a network of the family's name.

    Raises:
        ConfigError: what the shapes can't tell was not given, or what was given contradicts them.
        DitError: the shapes are not those of this family.
    """
    assert family.read is not None
    if (name := given.get("name", family.name)) not in (family.name, *family.variants):
        raise ConfigError(f"--model.name: expected a {family.name}, as the tensors tell, found {name}")
    section = validate(section_of(family.arguments), given, origin="", prefix="--model.")
    extra = section.overrides()
    if isinstance(size := extra.get("input_size"), int):
        extra["input_size"] = (size, size)
    told = family.read(shapes, extra)
    for field, value in extra.items():
        if field in told and told[field] not in (value, tuple(value) if isinstance(value, list) else value):
            raise ConfigError(f"--model.{field}: expected {told[field]}, as the tensors tell, found {value}")
    # A variant for other latents or classes is still the same network.
    fitting = [
        name
        for name, variant in family.variants.items()
        if all(
            told[field] == value for field, value in variant.items() if field in told.keys() - family.arguments.fitted
        )
    ]
    name = given.get("name") or (fitting[0] if fitting else family.name)
    if name not in (*fitting, family.name):
        expected = " or ".join(fitting) or family.name
        raise ConfigError(f"--model.name: expected {expected}, as the tensors tell, found {name}")
    arguments = {**family.variants.get(name, {}), **told, **extra}
    for field, info in family.arguments.model_fields.items():
        if field not in arguments and (info.is_required() or field == "input_size"):
            raise ConfigError(f"--model.{field}: expected it to be given; the tensors do not tell it")
    return ModelDescription(name=name, arguments=arguments_of(name, **arguments))
