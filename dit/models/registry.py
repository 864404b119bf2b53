"""Build a network by name. No I/O: weights are the zoo's business."""

from typing import Any

from torch import nn

from dit.models.dit import DiT
from dit.models.variants import resolve_arguments


def create_model(name: str, **overrides: Any) -> nn.Module:
    """Build a network with freshly drawn weights.

    Args:
        name: a variant, for example "dit_xl_2"; see `list_models`.
        overrides: any argument of the network (see `dit.models.dit.DiT`) that differs from the variant's.

    Raises:
        ConfigError: unknown name or argument, or arguments that do not fit each other.
    """
    return DiT(**resolve_arguments(name, **overrides))
