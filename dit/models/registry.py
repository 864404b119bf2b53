"""Build a network by name. No I/O: weights are the zoo's business."""

from importlib import import_module
from typing import Any

from dit.models.families import arguments_of, family_of
from dit.models.family import Arguments
from dit.models.network import Network


def create_model(name: str, **overrides: Any) -> Network:
    """Build a network with freshly drawn weights.

    Args:
        name: a variant, for example "dit_xl_2"; see `list_models`.
        overrides: any argument of the network that differs from the variant's (of a DiT see
            `dit.models.dit.arguments.DiTArguments`); `input_size` is one number or (height, width).

    Raises:
        ConfigError: unknown name or argument, or arguments that do not fit each other.
    """
    return build(name, arguments_of(name, **overrides))


def build(name: str, arguments: Arguments) -> Network:
    """Build a network of a variant's family from its arguments."""
    return network_class(name)(arguments)


def network_class(name: str) -> type[Network]:
    """Return the class of a variant's network."""
    module, _, network = family_of(name).network.partition(":")
    return getattr(import_module(module), network)
