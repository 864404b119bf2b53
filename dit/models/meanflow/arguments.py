"""The arguments and the variants of MeanFlow.

Source: Geng et al., "Mean flows for one-step generative modeling", NeurIPS 2025, table 4.
"""

from typing import Any

from dit.models.patches import PatchArguments


class MeanFlowArguments(PatchArguments):
    """What a MeanFlow network is built from; the defaults are those of ImageNet at 256 pixels."""


_SIZES: dict[str, dict[str, Any]] = {
    "ti_2": {"hidden_size": 192, "depth": 6, "num_heads": 3},
    "b_4": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "b_2": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "m_2": {"hidden_size": 1024, "depth": 16, "num_heads": 16},
    "l_2": {"hidden_size": 1024, "depth": 24, "num_heads": 16},
    "xl_2": {"hidden_size": 1152, "depth": 28, "num_heads": 16},
}

VARIANTS: dict[str, dict[str, Any]] = {
    f"meanflow_{name}": {"patch_size": int(name[-1]), **arguments} for name, arguments in _SIZES.items()
}
