"""The arguments that transformers over patches share. Free of torch.

p patch, D width.
"""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from dit.models.family import Arguments, Depth, Size


class PatchArguments(Arguments):
    """What a transformer over square patches is built from."""

    fitted: ClassVar[frozenset[str]] = Arguments.fitted

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

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_heads


class RotaryArguments(PatchArguments):
    """The same with heads whose queries and keys turn on two axes."""

    @model_validator(mode="after")
    def _heads_turn(self) -> Self:
        if self.head_size % 4:
            raise ValueError(
                f"num_heads: expected heads whose width is a multiple of 4 (rotary positions on two axes), found "
                f"{self.hidden_size} / {self.num_heads}"
            )
        return self
