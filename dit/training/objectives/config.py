"""The `objective` section of a recipe: which auxiliary losses are added to the process's own. Free of torch."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from dit.models.config import Routing
from dit.schema import OneOf, Section

Capability = Literal["CanShowTokens", "CanMask"]
Block = Annotated[int, Field(ge=1, le=1000)]
Group = Annotated[int, Field(ge=2, le=65536)]
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AuxiliaryConfig(Section):
    """What the sections of all auxiliary losses have."""

    loss: ClassVar[str]
    """module:Class of the `AuxiliaryLoss`, imported when a run is put together."""
    needs: ClassVar[Capability | None] = None
    """What the network has to offer, a protocol of `dit.models.network`."""
    needs_velocity: ClassVar[bool] = False
    """Whether the network has to be trained to return the velocity."""
    hides_tokens: ClassVar[bool] = False
    """Whether the network is shown some of the tokens in the pass of the process's own loss."""
    processes: ClassVar[tuple[str, ...]] = ("flow", "gaussian", "edm")
    """With which processes it is defined."""

    name: str
    """Which loss."""
    weight: Weight
    """Its weight beside the process's loss."""

    @property
    def needs_images(self) -> bool:
        """Whether batches have to hold the images themselves."""
        return False


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
    needs: ClassVar[Capability | None] = "CanShowTokens"

    name: Literal["dispersive"] = "dispersive"
    """Which loss."""
    weight: Weight = 0.25
    """Its weight beside the process's loss."""
    block: Block
    """Number of blocks, from 1, after which the tokens are taken; published: a quarter of the depth."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Scale of the mean square distance at which the repulsion fades."""
    group: Group = 32
    """Images, next to each other in the batch, that repel each other; micro-batches hold whole groups."""


class ContrastiveFlowConfig(AuxiliaryConfig):
    """The velocity keeps away from another sample's."""

    loss: ClassVar[str] = "dit.training.objectives.contrastive_flow:ContrastiveFlow"
    needs_velocity: ClassVar[bool] = True

    name: Literal["contrastive_flow"] = "contrastive_flow"
    """Which loss."""
    weight: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Its weight beside the process's loss; from 1 on the sum would have no lower bound."""
    group: Group = 32
    """Images, next to each other in the batch, among which the other sample is; micro-batches hold whole groups."""


class SelfAlignmentConfig(AuxiliaryConfig):
    """Tokens learn those of a later block of the averaged network at a cleaner time."""

    loss: ClassVar[str] = "dit.training.objectives.self_alignment:SelfAlignment"
    needs: ClassVar[Capability | None] = "CanShowTokens"
    processes: ClassVar[tuple[str, ...]] = ("flow",)

    name: Literal["self_alignment"] = "self_alignment"
    """Which loss."""
    weight: Weight = 0.2
    """Its weight beside the process's loss."""
    block: Block
    """Number of blocks, from 1, after which the tokens are taken; published: 8 of 28."""
    teacher_block: Block
    """Number of blocks after which they are taken in the averaged network; published: 20 of 28."""
    largest_gap: Annotated[float, Field(ge=0, le=1)] = 0.2
    """How much cleaner the averaged network's time is at most; it is drawn up to that."""


class MaskedSideConfig(AuxiliaryConfig):
    """A second pass in which the network sees some of the tokens and fills in the others, as MDT is trained."""

    loss: ClassVar[str] = "dit.training.objectives.masked_side:MaskedSide"
    needs: ClassVar[Capability | None] = "CanMask"

    name: Literal["masked_side"] = "masked_side"
    """Which loss."""
    weight: Weight = 1.0
    """Its weight beside the process's loss."""
    ratio: tuple[Share, Share] = (0.3, 0.5)
    """Bounds of the share of tokens left out, drawn for each step."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.ratio[0] > self.ratio[1]:
            raise ValueError(f"ratio: expected [low, high], found {list(self.ratio)}")
        return self


class MaskedReconstructionConfig(AuxiliaryConfig):
    """The network sees some of the tokens, for its own loss too, and restores the others, as MaskDiT is trained."""

    loss: ClassVar[str] = "dit.training.objectives.masked_reconstruction:MaskedReconstruction"
    needs: ClassVar[Capability | None] = "CanMask"
    hides_tokens: ClassVar[bool] = True
    processes: ClassVar[tuple[str, ...]] = ("flow", "edm")

    name: Literal["masked_reconstruction"] = "masked_reconstruction"
    """Which loss."""
    weight: Weight = 0.1
    """Its weight beside the process's loss."""
    ratio: Share = 0.5
    """Share of tokens left out."""
    schedule: Literal["constant", "falling"] = "constant"
    """Whether that share stays, or falls to 0 by train.max_steps as the fourth power of a cosine."""


class AlignmentConfig(AuxiliaryConfig):
    """Tokens learn the features that a frozen image encoder has of the image, as in REPA."""

    loss: ClassVar[str] = "dit.training.objectives.alignment:Alignment"
    needs: ClassVar[Capability | None] = "CanShowTokens"

    name: Literal["alignment"] = "alignment"
    """Which loss."""
    weight: Weight = 0.5
    """Its weight beside the process's loss."""
    encoder: str = "timm/vit_base_patch14_dinov2.lvd142m"
    """The encoder: timm/MODEL, or a folder or Hub id of a DINOv2 with registers."""
    features: str | None = None
    """Folder to which `dit encode --features ENCODER --out FOLDER` wrote its features; null: they are computed at every
    use, of images that are encoded while training."""
    block: Block
    """Number of blocks, from 1, after which the tokens are taken; published: 8 of 24 or 28, 4 of 12."""
    head_width: Annotated[int, Field(ge=1, le=65536)] = 2048
    """Width of the two hidden layers of the head."""
    until_step: Annotated[int, Field(ge=1)] | None = None
    """Steps that it is taken in; null: all."""

    @property
    def needs_images(self) -> bool:
        """Whether features are computed."""
        return self.features is None


_SECTIONS = (
    AlignmentConfig,
    VelocityDirectionConfig,
    MaskedSideConfig,
    MaskedReconstructionConfig,
    DispersiveConfig,
    SelfAlignmentConfig,
    ContrastiveFlowConfig,
)
AUXILIARY: dict[str, type[AuxiliaryConfig]] = {str(s.model_fields["name"].default): s for s in _SECTIONS}
"""Sections of the auxiliary losses by name."""


class ObjectiveConfig(Section):
    """What is minimised besides the process's loss."""

    auxiliary: tuple[Annotated[SerializeAsAny[AuxiliaryConfig], OneOf(lambda: AUXILIARY)], ...] = ()
    """Losses that are added, each {name: ..., weight: ..., ...} with fields of its own, given in one list."""
    routing: Routing | None = None
    """Tokens that skip blocks in training (TREAD), {leave_after: ..., rejoin_after: ..., ratio: ...}; null: none."""

    @property
    def alignment(self) -> AlignmentConfig | None:
        """The section of alignment, where it is in the list."""
        return next((section for section in self.auxiliary if isinstance(section, AlignmentConfig)), None)

    @property
    def needs_images(self) -> bool:
        """Whether a loss needs the images themselves."""
        return any(section.needs_images for section in self.auxiliary)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [section.name for section in self.auxiliary]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"auxiliary: expected every loss once, found {twice[0]} {names.count(twice[0])} times")
        return self
