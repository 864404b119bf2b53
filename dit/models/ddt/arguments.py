"""The arguments and the variants of DDT.

Source: Wang et al., "DDT: decoupled diffusion transformer", 2025, table 1.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dit.models.patches import RotaryArguments


class DdtArguments(RotaryArguments):
    """What a DDT is built from; the defaults are those of ImageNet at 256 pixels, as published."""

    encoder_depth: Annotated[int, Field(ge=0, le=1000)]
    """Number of the blocks, of `depth` in all, that make up the encoder."""

    @model_validator(mode="after")
    def _decoder_is_left(self) -> Self:
        if self.encoder_depth > self.depth:
            raise ValueError(f"encoder_depth: expected at most depth {self.depth}, found {self.encoder_depth}")
        return self

    @property
    def mlp_width(self) -> int:
        """Width of the MLP, of gate and value each."""
        return int(2 * int(self.hidden_size * self.mlp_ratio) / 3)


VARIANTS: dict[str, dict[str, Any]] = {
    f"ddt_{size}_2": {"patch_size": 2, **arguments}
    for size, arguments in {
        "ti": {"hidden_size": 192, "depth": 6, "num_heads": 3, "encoder_depth": 4},
        "b": {"hidden_size": 768, "depth": 12, "num_heads": 12, "encoder_depth": 8},
        "l": {"hidden_size": 1024, "depth": 24, "num_heads": 16, "encoder_depth": 20},
        "xl": {"hidden_size": 1152, "depth": 28, "num_heads": 16, "encoder_depth": 22},
    }.items()
}
