"""The fields of a recipe as help text: option, type, value and the sentence that stands under the field."""

import json
import shutil
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from dit.config import Recipe, check_recipe, read_recipe
from dit.schema import Section
from dit.validation import dotted_fields, item_sections

_WORDS = {str: "TEXT", int: "INTEGER", float: "NUMBER", bool: "true|false", NoneType: "null"}


def recipe_help(
    config: str | Path | None = None, overrides: Mapping[str, Any] | None = None, *, sections: Collection[str] = ()
) -> str:
    """Return the help text for all fields or those of some sections, with the values of a recipe, or the defaults.

    Raises:
        ConfigError: the recipe can't be read.
    """
    data = {} if config is None else read_recipe(config, overrides, complete=False)
    recipe = check_recipe(data, origin=str(config)).model_dump(mode="json")
    whose = "the defaults" if config is None else str(config)
    what = f"the recipe's {' and '.join(sections)}" if sections else "the recipe"
    lines = [f"fields of {what}, --section.field VALUE; the values shown are those of {whose}:"]
    width = min(100, shutil.get_terminal_size().columns)
    for name, members in _by_name().items():
        if (sections and name.partition(".")[0] not in sections) or ".0." in name:
            continue
        types = "|".join(dict.fromkeys(type_words(field.annotation) for field in members))
        sentence = " ".join(dict.fromkeys(" ".join((field.description or "").split()) for field in members))
        lines += ["", f"  --{name} {types} ({_shown(recipe, name)})"]
        lines += _wrapped(sentence, width, 6)
        for item in item_sections(members[0]).values():
            lines += _item_help(item, width)
    return "\n".join(lines)


def _item_help(section: type[Section], width: int) -> list[str]:
    """Return what may stand in a list: the section's name and sentence, and its fields with their defaults."""
    fields = dict(section.model_fields)
    lines = ["", f"      - name: {fields.pop('name').default}", *_wrapped(section.__doc__ or "", width, 10)]
    for name, field in fields.items():
        default = "needed" if field.is_required() else json.dumps(field.default)
        lines.append(f"        {name}: {type_words(field.annotation)} ({default})")
        lines += _wrapped(field.description or "", width, 10)
    return lines


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width, initial_indent=" " * indent, subsequent_indent=" " * indent)


def type_words(annotation: Any) -> str:
    """Return a type as a help text names it: `NUMBER|null`, `[NUMBER, NUMBER]`, `constant|cosine`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(arguments[0])
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (Union, UnionType):
        return "|".join(dict.fromkeys(map(type_words, arguments)))
    if origin in (list, tuple):
        return "[" + ", ".join("..." if item is Ellipsis else type_words(item) for item in arguments) + "]"
    return "{...}" if issubclass(annotation, Section) else _WORDS[annotation]


def _by_name() -> dict[str, list[FieldInfo]]:
    """Gather the fields by dotted name: the choices of a union may share one."""
    fields: dict[str, list[FieldInfo]] = {}
    for name, field in dotted_fields(Recipe):
        fields.setdefault(name, []).append(field)
    return fields


def _shown(recipe: Mapping[str, Any], name: str) -> str:
    value: Any = recipe
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return f"not with this {name.rpartition('.')[0]}"
        value = value[key]
    return f"now: {value if isinstance(value, str) else json.dumps(value)}"
