"""The `model` section of a recipe: a family's arguments, each of which may be left out."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from dit.models.families import FAMILIES, family_of
from dit.models.family import Arguments, Size
from dit.schema import OneOf, Section


class ModelConfig(Section):
    """Which network is trained; what is left out comes from the variant, the data and the autoencoder."""

    name: str = "dit_s_2"
    """Variant, one of `dit models`."""
    num_classes: Annotated[int, Field(ge=0)] | None = None
    """Number of classes; left out: as many as the data has; 0: unconditional, the null class alone."""
    input_size: Size | list[Size] | None = None
    """Height and width of the latent; left out: image size over the autoencoder's stride."""
    in_channels: Size | None = None
    """Channels of the latent; left out: the autoencoder's."""
    learn_sigma: bool | None = None
    """Whether the output has a second half for the variance; left out: as the process needs it."""
    class_dropout_prob: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of training labels replaced by the null class; guidance needs more than 0; left out: the variant's."""
    pretrained: str | None = None
    """Weights to start from: a zoo name, a folder, a checkpoint file or a Hub id."""

    def overrides(self) -> dict[str, Any]:
        """Return the network's arguments that this section sets, for `create_model(name, **overrides)`."""
        return self.model_dump(exclude={"name", "pretrained"}, exclude_none=True)


@cache
def section_of(arguments: type[Arguments]) -> type[ModelConfig]:
    """Return the section for a family: the fields above, and its own arguments, none of them required."""
    own = {name: field for name, field in arguments.model_fields.items() if name not in ModelConfig.model_fields}
    types: dict[str, Any] = {
        name: Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        for name, field in own.items()
    }
    fields: dict[str, Any] = {
        name: (types[name] | None, Field(None, description=field.description)) for name, field in own.items()
    }
    return create_model(arguments.__name__.replace("Arguments", "Config"), __base__=ModelConfig, **fields)


class OfAFamily(OneOf):
    """Annotation of the field: its `name` is a variant, and the other fields are those of the variant's family."""

    def __init__(self) -> None:
        super().__init__(lambda: {name: section_of(family.arguments) for name, family in FAMILIES.items()})

    def choose(self, fields: Mapping[str, Any]) -> type[Section]:
        """Return the section of the family that a variant belongs to."""
        name = fields.get("name", ModelConfig.model_fields["name"].default)
        return section_of(family_of(name, field="name").arguments if isinstance(name, str) else Arguments)

    def name_field(self, field: FieldInfo) -> FieldInfo:
        """Return what the help text says of the name."""
        return ModelConfig.model_fields["name"]


def default_model() -> ModelConfig:
    """Return the section of a recipe that has none."""
    return section_of(family_of("dit_s_2").arguments)()
