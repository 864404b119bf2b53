"""The arguments and the variants of DiT.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers", ICCV 2023, table 1.
"""

from typing import Any, ClassVar

from dit.models.patches import PatchArguments


class DiTArguments(PatchArguments):
    """What a DiT is built from; the defaults are those of ImageNet at 256 pixels, as published."""

    fitted: ClassVar[frozenset[str]] = PatchArguments.fitted | {"learn_sigma"}

    learn_sigma: bool = True
    """Whether the output has a second half for the variance."""
    qk_norm: bool = False
    """Whether queries and keys are normalised per head, by LayerNorm with weights."""


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
