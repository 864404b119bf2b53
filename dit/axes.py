"""What a tool varies: options that take several values, and every combination of them."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dit.errors import ConfigError
from dit.yaml12 import parse_yaml


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """Read FIELD=VALUE,VALUE,...

    Raises:
        ConfigError: it is something else, or a value is there twice.
    """
    field, equals, values = text.partition("=")
    found = parse_yaml(f"[{values}]", origin=f"--vary {field}") if equals else []
    if not field or not found or len({as_text(value) for value in found}) < len(found):
        raise ConfigError(f"--vary: expected FIELD=VALUE,VALUE,... of different values, found {text!r}")
    return field, found


def parse_axes(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read several, of different fields.

    Raises:
        ConfigError: one is something else, or a field is there twice.
    """
    pairs = [parse_axis(text) for text in texts]
    if twice := [field for number, (field, _) in enumerate(pairs) if field in dict(pairs[:number])]:
        raise ConfigError(f"--vary: expected every field once, found {twice[0]} again")
    return dict(pairs)


def combinations(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield field -> value for every combination, the last axis running fastest; one, empty, of no axes."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def as_text(value: Any) -> str:
    """Return a value as an option takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Return field -> value as options."""
    return [text for field, value in values.items() for text in (f"--{field}", as_text(value))]


def as_name(parts: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return a name for files of some parts and values: `parts_last=value`, without what file names can't hold."""
    named = [*parts, *(f"{field.rpartition('.')[2]}={_plain(as_text(value))}" for field, value in values.items())]
    return _plain("_".join(named))


def _plain(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", text).strip("-")
