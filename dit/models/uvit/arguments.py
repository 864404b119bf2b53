"""The arguments and the variants of U-ViT.

Source: Bao et al., "All are worth words: a ViT backbone for diffusion models", CVPR 2023, table 6.
"""

from typing import Any, Self

from pydantic import model_validator

from dit.models.patches import PatchArguments


class UViTArguments(PatchArguments):
    """What a U-ViT is built from; the defaults are those of the published latent models."""

    qkv_bias: bool = False
    """Whether queries, keys and values have a bias."""
    time_mlp: bool = False
    """Whether the features of the time go through an MLP."""
    final_convolution: bool = True
    """Whether the image leaves through a 3x3 convolution."""

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.depth % 2:
            raise ValueError(
                f"depth: expected an even number (as many blocks before the middle as after), found {self.depth}"
            )
        return self

    @property
    def num_extra_tokens(self) -> int:
        """Number of tokens before the patches: the time, and the class where there are classes."""
        return 2 if self.has_classes else 1

    @property
    def has_classes(self) -> bool:
        """Whether there is a label table; without classes there is none, nor a null class."""
        return self.num_classes > 0

    @property
    def null_class(self) -> int | None:
        """Label of the null class; None where the network has none."""
        return self.num_classes if self.has_classes and self.class_dropout_prob > 0 else None


_SIZES: dict[str, dict[str, Any]] = {
    "ti": {"hidden_size": 208, "depth": 6, "num_heads": 4},
    "s": {"hidden_size": 512, "depth": 12, "num_heads": 8},
    "m": {"hidden_size": 768, "depth": 16, "num_heads": 12},
    "l": {"hidden_size": 1024, "depth": 20, "num_heads": 16},
    "h": {"hidden_size": 1152, "depth": 28, "num_heads": 16, "final_convolution": False},
}
_PIXELS_64: dict[str, Any] = {"in_channels": 3, "input_size": 64}
_OF_VARIANT: dict[str, dict[str, Any]] = {
    "ti_2": {},
    "s_2": {"in_channels": 3, "num_classes": 0},
    "s_4": {**_PIXELS_64, "num_classes": 0},
    "m_4": {**_PIXELS_64, "class_dropout_prob": 0.0},
    "l_2": {},
    "l_4": {"input_size": 64},
    "h_2": {},
    "h_4": {"input_size": 64},
}

VARIANTS: dict[str, dict[str, Any]] = {
    f"uvit_{name}": {"patch_size": int(name[-1]), **_SIZES[name.partition("_")[0]], **arguments}
    for name, arguments in _OF_VARIANT.items()
}
