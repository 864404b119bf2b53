"""The `objective` section of a recipe: which auxiliary losses are added to the process's own. Free of torch."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from dit.schema import OneOf, Section

Block = Annotated[int, Field(ge=1, le=1000)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AuxiliaryConfig(Section):
    """What the sections of all auxiliary losses have."""

    loss: ClassVar[str]
    """module:Class of the `AuxiliaryLoss`, imported when a run is put together."""
    needs: ClassVar[Literal["CanShowTokens", "CanMask"] | None] = None
    """What the network has to offer, a protocol of `dit.models.network`."""
    needs_velocity: ClassVar[bool] = False
    """Whether the network has to be trained to return the velocity."""

    name: str
    """Which loss."""
    weight: Weight
    """Its weight beside the process's loss."""


class VelocityDirectionConfig(AuxiliaryConfig):
    """LightningDiT's second term: one minus the cosine between the velocity and its target."""

    loss: ClassVar[str] = "dit.training.objectives.velocity_direction:VelocityDirection"
    needs_velocity: ClassVar[bool] = True

    name: Literal["velocity_direction"] = "velocity_direction"
    """Which loss."""
    weight: Weight = 1.0
    """Its weight beside the process's loss."""


class DispersiveConfig(AuxiliaryConfig):
    """Tokens after a block repel those of the other images."""

    loss: ClassVar[str] = "dit.training.objectives.dispersive:Dispersive"
    needs: ClassVar[Literal["CanShowTokens", "CanMask"] | None] = "CanShowTokens"

    name: Literal["dispersive"] = "dispersive"
    """Which loss."""
    weight: Weight = 0.25
    """Its weight beside the process's loss."""
    block: Block
    """Number of blocks, from 1, after which the tokens are taken; published: a quarter of the depth."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Scale of the mean square distance at which the repulsion fades."""
    group: Annotated[int, Field(ge=2, le=65536)] = 32
    """Images, next to each other in the batch, that repel each other; micro-batches hold whole groups."""


AUXILIARY: dict[str, type[AuxiliaryConfig]] = {
    str(section.model_fields["name"].default): section for section in (VelocityDirectionConfig, DispersiveConfig)
}
"""Sections of the auxiliary losses by name."""


class ObjectiveConfig(Section):
    """What is minimised besides the process's loss."""

    auxiliary: tuple[Annotated[SerializeAsAny[AuxiliaryConfig], OneOf(lambda: AUXILIARY)], ...] = ()
    """Losses that are added, each {name: ..., weight: ..., ...} with fields of its own, given in one list."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [section.name for section in self.auxiliary]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"auxiliary: expected every loss once, found {twice[0]} {names.count(twice[0])} times")
        return self
