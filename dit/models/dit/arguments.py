"""The arguments and the variants of DiT.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers", ICCV 2023, table 1.
"""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from dit.models.family import Arguments, Depth, Size


class DiTArguments(Arguments):
    """What a DiT is built from; the defaults are those of ImageNet at 256 pixels, as published."""

    fitted: ClassVar[frozenset[str]] = Arguments.fitted | {"learn_sigma"}

    patch_size: Size
    """Side of a patch, in latent pixels."""
    hidden_size: Size
    """Width of the tokens."""
    depth: Depth
    """Number of blocks."""
    num_heads: Annotated[int, Field(ge=1, le=4096)]
    """Number of attention heads; must divide the width."""
    mlp_ratio: Annotated[float, Field(gt=0, le=65536)] = 4.0
    """Width of the MLP over the width of the tokens."""
    learn_sigma: bool = True
    """Whether the output has a second half for the variance."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        width, patch, (height, columns) = self.hidden_size, self.patch_size, self.input_size
        if width % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of hidden_size {width}, found {self.num_heads}")
        if width % 4:
            raise ValueError(f"hidden_size: expected a multiple of 4 (2-D sin-cos positions), found {width}")
        if height % patch or columns % patch:
            raise ValueError(f"input_size: expected multiples of patch_size {patch}, found {height}x{columns}")
        if self.mlp_width < 1:
            raise ValueError(f"mlp_ratio: expected at least 1/{width}, found {self.mlp_ratio}")
        return self

    @property
    def mlp_width(self) -> int:
        """Width of the MLP."""
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.input_size
        return height // self.patch_size, width // self.patch_size


_SIZES = {
    "ti": {"hidden_size": 192, "depth": 6, "num_heads": 3},
    "s": {"hidden_size": 384, "depth": 12, "num_heads": 6},
    "b": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "l": {"hidden_size": 1024, "depth": 24, "num_heads": 16},
    "xl": {"hidden_size": 1152, "depth": 28, "num_heads": 16},
}
_PATCHES = {"ti": (2,), "s": (2, 4, 8), "b": (1, 2, 4, 8), "l": (1, 2, 4, 8), "xl": (1, 2, 4, 8)}

VARIANTS: dict[str, dict[str, Any]] = {
    f"dit_{size}_{patch}": {"patch_size": patch, **arguments}
    for size, arguments in _SIZES.items()
    for patch in _PATCHES[size]
}
