"""The networks and their table: `create_model(name, **overrides)` and `list_models(pattern)`, without any I/O."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dit.models.families import list_models, register_family
    from dit.models.registry import create_model

_EXPORTS = {
    "create_model": "dit.models.registry",
    "list_models": "dit.models.families",
    "register_family": "dit.models.families",
}

__all__ = ["create_model", "list_models", "register_family"]


def __getattr__(name: str) -> Any:
    # Lazy, because the table is read by commands that must not pay for torch.
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
