"""The arguments and the variants of iMF and pMF.

Source: Geng et al., "Improved mean flows", 2025; Lu et al., "One-step latent-free image generation with pixel mean
flows", 2026; sizes of the published models.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dit.models.family import Size
from dit.models.patches import PatchArguments, RotaryArguments

_Tokens = Annotated[int, Field(ge=1, le=65536)]


class ImfArguments(PatchArguments):
    """What an iMF network is built from; the defaults are those of ImageNet at 256 pixels, as published."""

    mlp_ratio: Annotated[float, Field(gt=0, le=65536)] = 8 / 3
    """Width of the MLP over the width of the tokens."""
    head_depth: Annotated[int, Field(ge=0, le=1000)] = 8
    """Number of the last blocks, which each output has for itself."""
    velocity_head: bool = False
    """Whether the second output, the velocity, has its blocks: in training; published inference files leave it out."""
    num_class_tokens: _Tokens = 8
    """Number of tokens of the class."""
    num_time_tokens: _Tokens = 4
    """Number of tokens of the step h."""
    num_guidance_tokens: _Tokens = 4
    """Number of tokens of the guidance scale."""
    num_interval_tokens: _Tokens = 2
    """Number of tokens of each end of the guidance interval."""

    @model_validator(mode="after")
    def _heads_are_a_part(self) -> Self:
        if self.head_depth > self.depth:
            raise ValueError(f"head_depth: expected at most depth {self.depth}, found {self.head_depth}")
        if self.head_size % 2:
            raise ValueError(
                "num_heads: expected heads of even width (rotary positions), found "
                f"{self.hidden_size} / {self.num_heads}"
            )
        return self

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before the patches."""
        return self.num_class_tokens + self.num_guidance_tokens + 2 * self.num_interval_tokens + self.num_time_tokens


class PmfArguments(ImfArguments, RotaryArguments):
    """What a pMF network is built from; the defaults are those of ImageNet at 256 pixels, as published."""

    in_channels: Size = 3
    """Channels of the image."""
    bottleneck_size: Size
    """Width between the two projections of a patch."""

    @property
    def mlp_width(self) -> int:
        """Width of the MLP, for wide networks a multiple of 8."""
        width = int(self.hidden_size * self.mlp_ratio)
        return width if self.hidden_size <= 1024 else -(-width // 8) * 8


_TINY: dict[str, Any] = {"hidden_size": 192, "depth": 8, "num_heads": 3, "head_depth": 3}
_TINY_TOKENS = {"num_class_tokens": 2, "num_time_tokens": 1, "num_guidance_tokens": 1, "num_interval_tokens": 1}

IMF_VARIANTS: dict[str, dict[str, Any]] = {
    "imf_ti_2": {"patch_size": 2, **_TINY, **_TINY_TOKENS},
    "imf_b_2": {"patch_size": 2, "hidden_size": 768, "depth": 12, "num_heads": 12},
    "imf_m_2": {"patch_size": 2, "hidden_size": 768, "depth": 24, "num_heads": 12},
    "imf_l_2": {"patch_size": 2, "hidden_size": 1024, "depth": 32, "num_heads": 16},
    "imf_xl_2": {"patch_size": 2, "hidden_size": 1024, "depth": 48, "num_heads": 16},
}
_PIXEL_SIZES: dict[str, dict[str, Any]] = {
    "b": {"hidden_size": 768, "depth": 16, "num_heads": 12, "bottleneck_size": 128},
    "l": {"hidden_size": 1024, "depth": 32, "num_heads": 16, "bottleneck_size": 128},
    "h": {"hidden_size": 1280, "depth": 48, "num_heads": 16, "bottleneck_size": 256},
}
PMF_VARIANTS: dict[str, dict[str, Any]] = {
    "pmf_ti_8": {"patch_size": 8, **_TINY, **_TINY_TOKENS, "bottleneck_size": 32}
} | {
    f"pmf_{size}_{patch}": {"patch_size": patch, "input_size": 16 * patch, **arguments}
    for patch in (16, 32)
    for size, arguments in _PIXEL_SIZES.items()
}
