"""The arguments and the variants of JiT.

Source: Li & He, "Back to basics: let denoising generative models denoise", 2025, table 9.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dit.models.family import Size
from dit.models.patches import RotaryArguments


class JiTArguments(RotaryArguments):
    """What a JiT is built from; the defaults are those of the published models at 256 pixels."""

    in_channels: Size = 3
    """Channels of the image."""
    bottleneck_size: Size
    """Width between the two projections of a patch."""
    num_context_tokens: Annotated[int, Field(ge=0, le=65536)] = 32
    """Number of tokens that hold the class."""
    context_start: Annotated[int, Field(ge=0, le=1000)] = 4
    """Block, counted from 0, before which the class tokens join the patches."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of attention and MLP in the middle half of the blocks, in training."""

    @model_validator(mode="after")
    def _context_joins(self) -> Self:
        if self.context_start >= self.depth:
            raise ValueError(f"context_start: expected less than depth {self.depth}, found {self.context_start}")
        return self

    @property
    def mlp_width(self) -> int:
        """Width of the MLP, of gate and value each."""
        return int(int(self.hidden_size * self.mlp_ratio) * 2 / 3)


_SIZES: dict[str, dict[str, Any]] = {
    "b": {"hidden_size": 768, "depth": 12, "num_heads": 12, "bottleneck_size": 128, "context_start": 4},
    "l": {"hidden_size": 1024, "depth": 24, "num_heads": 16, "bottleneck_size": 128, "context_start": 8},
    "h": {"hidden_size": 1280, "depth": 32, "num_heads": 16, "bottleneck_size": 256, "context_start": 10},
    "g": {"hidden_size": 1664, "depth": 40, "num_heads": 16, "bottleneck_size": 256, "context_start": 10},
}
_TINY = {"hidden_size": 192, "depth": 6, "num_heads": 3, "bottleneck_size": 32, "context_start": 2}

VARIANTS: dict[str, dict[str, Any]] = {"jit_ti_8": {"patch_size": 8, **_TINY, "num_context_tokens": 4}} | {
    f"jit_{size}_{patch}": {
        "patch_size": patch,
        "input_size": 16 * patch,
        **arguments,
        "dropout": 0.2 if size in "hg" else 0.0,
    }
    for patch in (16, 32)
    for size, arguments in _SIZES.items()
}
