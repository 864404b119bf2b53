"""The arguments and the variants of MDT and MDTv2.

Source: Gao et al., "Masked diffusion transformer is a strong image synthesizer", ICCV 2023; "MDTv2", 2023.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dit.models.dit.arguments import DiTArguments


class MdtArguments(DiTArguments):
    """What an MDT is built from; the defaults are those of the published models."""

    decode_layers: Annotated[int, Field(ge=0, le=1000)]
    """Number of the last blocks, which see all tokens also where some are masked."""

    @model_validator(mode="after")
    def _decoder_is_a_part(self) -> Self:
        if self.decode_layers > self.depth:
            raise ValueError(f"decode_layers: expected at most depth {self.depth}, found {self.decode_layers}")
        height, width = self.grid_size
        if height != width:
            raise ValueError(f"input_size: expected a square (relative position bias), found {self.input_size}")
        return self


_SIZES: dict[str, dict[str, Any]] = {
    "ti": {"hidden_size": 192, "depth": 6, "num_heads": 3},
    "s": {"hidden_size": 384, "depth": 12, "num_heads": 6},
    "b": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "l": {"hidden_size": 1024, "depth": 24, "num_heads": 16},
    "xl": {"hidden_size": 1152, "depth": 28, "num_heads": 16},
}

MDT_VARIANTS: dict[str, dict[str, Any]] = {
    f"mdt_{size}_{patch}": {"patch_size": patch, "decode_layers": 2, **arguments}
    for size, arguments in _SIZES.items()
    for patch in ((2,) if size == "ti" else (2, 4, 8))
}
_DECODE_LAYERS = {"ti": 2, "s": 6}
MDT_V2_VARIANTS: dict[str, dict[str, Any]] = {
    f"mdtv2_{size}_2": {"patch_size": 2, "decode_layers": _DECODE_LAYERS.get(size, 4), **arguments}
    for size, arguments in _SIZES.items()
}
