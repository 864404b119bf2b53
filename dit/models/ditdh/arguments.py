"""The arguments and the variants of DiT-DH.

Source: Zheng et al., "Diffusion transformers with representation autoencoders", 2025, table 6.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dit.models.family import Depth, InputSize, Size
from dit.models.lightningdit.arguments import LightningDiTArguments
from dit.models.patches import RotaryArguments


class DiTDHArguments(RotaryArguments):
    """What a DiT-DH is built from; the defaults are those of the published models at 256 pixels."""

    input_size: InputSize = (16, 16)
    """Height and width of the latent, or one number for both."""
    in_channels: Size = 768
    """Channels of the latent."""
    patch_size: Size = 1
    """Side of a patch, in latent pixels; 1 in the published models."""
    head_hidden_size: Size = 2048
    """Width of the head's tokens."""
    head_depth: Depth = 2
    """Number of the head's blocks."""
    head_num_heads: Annotated[int, Field(ge=1, le=4096)] = 16
    """Number of attention heads in the head's blocks."""
    swiglu: bool = True
    """Whether the MLP has a gate (SwiGLU of two thirds of the width); else it is DiT's, with GELU."""
    rotary: bool = True
    """Whether queries and keys turn with their position."""
    rms_norm: bool = True
    """Whether tokens are normalised by their root mean square, with weights; else by LayerNorm without."""
    qk_norm: bool = False
    """Whether queries and keys are normalised per head."""
    positions: bool = True
    """Whether fixed positions are added to the encoder's tokens."""

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        if self.head_hidden_size % (4 * self.head_num_heads):
            raise ValueError(
                "head_num_heads: expected heads whose width is a multiple of 4 (rotary positions on two axes), found "
                f"{self.head_hidden_size} / {self.head_num_heads}"
            )
        return self

    @property
    def encoder(self) -> LightningDiTArguments:
        """Arguments of the encoder's blocks."""
        return self._half(self.hidden_size, self.depth, self.num_heads)

    @property
    def head(self) -> LightningDiTArguments:
        """Arguments of the head's blocks."""
        return self._half(self.head_hidden_size, self.head_depth, self.head_num_heads)

    def _half(self, hidden_size: int, depth: int, num_heads: int) -> LightningDiTArguments:
        same = ("input_size", "in_channels", "patch_size", "mlp_ratio", "swiglu", "rotary", "rms_norm", "qk_norm")
        shared: dict[str, Any] = {name: getattr(self, name) for name in same}
        return LightningDiTArguments(hidden_size=hidden_size, depth=depth, num_heads=num_heads, **shared)


_TINY: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 128,
    "depth": 6,
    "num_heads": 2,
    "head_hidden_size": 256,
    "head_depth": 2,
    "head_num_heads": 4,
}

VARIANTS: dict[str, dict[str, Any]] = {"ditdh_ti_2": _TINY} | {
    f"ditdh_{size}_1": {"hidden_size": width, "depth": depth, "num_heads": heads}
    for size, width, depth, heads in (
        ("s", 384, 12, 6),
        ("b", 768, 12, 12),
        ("l", 1024, 24, 16),
        ("xl", 1152, 28, 16),
    )
}
