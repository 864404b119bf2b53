"""The networks and their registry: `create_model(name, **overrides)` and `list_models(pattern)`, without any I/O."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dit.models.dit import DiT
    from dit.models.registry import create_model
    from dit.models.variants import list_models

_EXPORTS = {"create_model": "dit.models.registry", "list_models": "dit.models.variants", "DiT": "dit.models.dit"}

__all__ = ["DiT", "create_model", "list_models"]


def __getattr__(name: str) -> Any:
    # Lazy, because the variants' plain data is read by commands that must not pay for torch.
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
