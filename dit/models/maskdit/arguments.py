"""The arguments and the variants of MaskDiT.

Source: Zheng et al., "Fast training of diffusion models with masked transformers", TMLR 2024.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dit.models.family import Depth, Size
from dit.models.patches import PatchArguments


class MaskDiTArguments(PatchArguments):
    """What a MaskDiT is built from; the defaults are those of the published models at 256 pixels."""

    decoder_hidden_size: Size = 512
    """Width of the decoder's tokens."""
    decoder_depth: Depth = 8
    """Number of the decoder's blocks."""
    decoder_num_heads: Annotated[int, Field(ge=1, le=4096)] = 16
    """Number of attention heads in the decoder's blocks; must divide its width."""

    @model_validator(mode="after")
    def _decoder_fits(self) -> Self:
        width = self.decoder_hidden_size
        if width % self.decoder_num_heads:
            raise ValueError(
                f"decoder_num_heads: expected a divisor of decoder_hidden_size {width}, found {self.decoder_num_heads}"
            )
        if width % 4:
            raise ValueError(f"decoder_hidden_size: expected a multiple of 4 (2-D sin-cos positions), found {width}")
        return self

    @property
    def decoder_mlp_width(self) -> int:
        """Width of the decoder's MLPs."""
        return int(self.decoder_hidden_size * self.mlp_ratio)


_TINY: dict[str, Any] = {
    "hidden_size": 192,
    "depth": 5,
    "num_heads": 3,
    "decoder_hidden_size": 128,
    "decoder_depth": 2,
    "decoder_num_heads": 4,
}

VARIANTS: dict[str, dict[str, Any]] = {"maskdit_ti_2": {"patch_size": 2, **_TINY}} | {
    f"maskdit_{size}_2": {"patch_size": 2, "hidden_size": width, "depth": depth, "num_heads": heads}
    for size, width, depth, heads in (
        ("s", 384, 12, 6),
        ("b", 768, 12, 12),
        ("l", 1024, 24, 16),
        ("xl", 1152, 28, 16),
        ("h", 1280, 32, 16),
    )
}
