"""What a family of networks is: its arguments, its variants and where its network is. Plain data, free of torch.

C latent channels, H x W latent, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from dit.models.layout import Layout, Shapes
from dit.schema import Section

# Far beyond any network that was ever trained; a typo stops here and not in the allocator.
Size = Annotated[int, Field(ge=1, le=65536)]
"""A width or a number of channels or heads."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""A number of blocks."""


def _pair(value: Any) -> Any:
    pair = (value, value) if type(value) is int else value
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"expected one number or [height, width], found {value!r}")
    return tuple(pair)


InputSize = Annotated[tuple[Size, Size], BeforeValidator(_pair)]
"""Height and width; one number stands for both."""


class Arguments(Section):
    """Everything that decides a network's shapes; a family's own class adds its fields and says what does not fit.

    A field becomes `--model.FIELD`, its sentence the help text. A validator that runs over several fields raises
    ValueError("field: expected ..., found ...").
    """

    fitted: ClassVar[frozenset[str]] = frozenset({"input_size", "in_channels", "num_classes", "class_dropout_prob"})
    """Arguments that `Network.fit` can change; in all others weights and network have to agree."""

    input_size: InputSize = (32, 32)
    """Height and width of the latent, or one number for both."""
    in_channels: Size = 4
    """Channels of the latent."""
    num_classes: Annotated[int, Field(ge=0, le=10_000_000)] = 1000
    """Number of classes; 0: unconditional, the null class alone."""
    class_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of labels that training replaces by the null class, which guidance needs. The training loop draws them;
    the network itself never drops a label, in train mode neither: an own loop has to."""

    @property
    def null_class(self) -> int | None:
        """Label of the null class; None where the network has none."""
        return self.num_classes if self.class_dropout_prob > 0 or self.num_classes == 0 else None


@dataclass(frozen=True)
class Family:
    """A kind of network, with everything about it that needs no torch."""

    name: str
    """What its variants' names begin with."""
    arguments: type[Arguments]
    """What its network is built from."""
    network: str
    """module:Class of a `dit.models.network.Network`, imported when it is built."""
    variants: Mapping[str, Mapping[str, Any]]
    """Name -> the arguments that differ from the defaults."""
    extends: str | None = None
    """Family whose weights its networks can start from: `Network.fit` adds what they lack, without effect at first."""
    layouts: tuple[Layout, ...] = ()
    """Published names of its tensors; the first is what `convert --to original` writes."""
    read: Callable[[Shapes, Mapping[str, Any]], dict[str, Any]] | None = None
    """Arguments from shapes: read(shapes of tensors named as ours, what the user gave) -> what they tell; given values
    decide where the shapes leave a choice. Needed with layouts."""
