"""The arguments and the variants of LightningDiT.

Source: Yao et al., "Reconstruction vs. generation: taming optimization dilemma in latent diffusion models", CVPR 2025,
and its published models.
"""

from typing import Any

from dit.models.patches import RotaryArguments


class LightningDiTArguments(RotaryArguments):
    """What a LightningDiT is built from; the defaults are those of the published models."""

    variance_half: bool = False
    """Whether the weights have a second output half for the variance, which the network leaves out."""
    swiglu: bool = True
    """Whether the MLP has a gate (SwiGLU of two thirds of the width); else it is DiT's, with GELU."""
    rotary: bool = True
    """Whether queries and keys turn with their position, besides the positions that are added."""
    rms_norm: bool = True
    """Whether tokens are normalised by their root mean square, with weights; else by LayerNorm without."""
    qk_norm: bool = False
    """Whether queries and keys are normalised per head."""
    shift: bool = True
    """Whether the modulation of a block has shifts besides scales and gates."""
    fourier_time: bool = False
    """Whether times enter by random Fourier features, drawn once and kept with the weights; else by fixed ones."""

    @property
    def mlp_width(self) -> int:
        """Width of the MLP, of gate and value each."""
        width = int(self.hidden_size * self.mlp_ratio)
        return int(2 / 3 * width) if self.swiglu else width


_SIZES = {
    "ti": {"hidden_size": 192, "depth": 6, "num_heads": 3},
    "b": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "l": {"hidden_size": 1024, "depth": 24, "num_heads": 16},
    "xl": {"hidden_size": 1152, "depth": 28, "num_heads": 16},
    "1p0b": {"hidden_size": 1536, "depth": 24, "num_heads": 24},
    "1p6b": {"hidden_size": 1792, "depth": 28, "num_heads": 28},
}
_PATCHES = {"ti": (2,), "b": (1, 2), "l": (2,), "xl": (1, 2), "1p0b": (1, 2), "1p6b": (1, 2)}

VARIANTS: dict[str, dict[str, Any]] = {
    f"lightningdit_{size}_{patch}": {"patch_size": patch, "in_channels": 32, "input_size": 16, **arguments}
    for size, arguments in _SIZES.items()
    for patch in _PATCHES[size]
}
