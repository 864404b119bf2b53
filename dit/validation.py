"""From a dictionary to a `Section`, or to one line that says what is wrong with it.

The dictionary is checked as JSON, in which a list may stand for a tuple. pydantic's errors become
`origin: field: expected ..., found ...`; an unknown key names the nearest one.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dit.errors import ConfigError, did_you_mean
from dit.schema import OneOf, Section

S = TypeVar("S", bound=BaseModel)
_NUM_SHOWN = 3
_KINDS = {
    str: "text",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}
_WORDS = {
    "valid ": "",
    "a string": "text",
    "an object": "a mapping",
    "a array": "a list",
    "a integer": "an integer",
    "a boolean": "true or false",
}


def validate(
    section: type[S], data: Mapping[str, Any], *, origin: str, prefix: str = "", overridden: Collection[str] = ()
) -> S:
    """Return the section that `data` describes.

    Args:
        section: class of the result.
        data: nested dictionary of plain values.
        origin: where the values come from, such as a file's name; "" where a field's name says enough.
        prefix: what a message puts before a field's name, such as "model.".
        overridden: dotted fields that came from the command line instead, as `--field`.

    Raises:
        ConfigError: one line naming each field, what was expected and what was found.
    """
    try:
        return section.model_validate_json(json.dumps(data, default=repr))
    except ValidationError as error:
        complaints: dict[str, list[tuple[str, str]]] = {}
        for details in error.errors(include_url=False):
            field = _dotted_name(details, data)
            expected, found = _expected_and_found(details, field, section)
            if named := re.match(r"(\w+): ", expected):  # by a validator, most often one that runs over several fields
                expected = expected[named.end() :]
                field = field if field.endswith(f".{named[1]}") else f"{field}.{named[1]}".removeprefix(".")
            field = field and prefix + field
            where = f"--{field}" if field in overridden else ": ".join(filter(None, (origin, field)))
            complaints.setdefault(where, []).append((expected, found))
        lines = [_line(where, about_one_field) for where, about_one_field in complaints.items()]
        more = f" (and {len(lines) - _NUM_SHOWN} more)" if len(lines) > _NUM_SHOWN else ""
        raise ConfigError("; ".join(lines[:_NUM_SHOWN]) + more) from None


def dotted_fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted name and the description of every field; sections are opened, also as members of a union.

    Of a list of sections the fields of the first item stand for those of all.
    """
    for name, field in section.model_fields.items():
        members = list(_sections(field.annotation))
        if choice := next((item for item in field.metadata if isinstance(item, OneOf)), None):
            yield f"{prefix}{name}.name", choice.name_field(field)
            for member in choice.sections().values():
                for inner, options in dotted_fields(member, f"{prefix}{name}."):
                    if inner != f"{prefix}{name}.name":
                        yield inner, options
            continue
        if not members:
            yield prefix + name, field
        for member in item_sections(field).values():
            yield from dotted_fields(member, f"{prefix}{name}.0.")
        for member in members:
            yield from dotted_fields(member, f"{prefix}{name}.")


def item_sections(field: FieldInfo) -> Mapping[str, type[Section]]:
    """Return the sections, by name, that the items of a field's list may be; none where they are something else."""
    marks = (mark for item in get_args(field.annotation) if get_origin(item) is Annotated for mark in get_args(item))
    return next((mark.sections() for mark in marks if isinstance(mark, OneOf)), {})


def set_field(data: dict[str, Any], key: str, value: Any, *, section: type[BaseModel]) -> None:
    """Put the value of a dotted field into a nested dictionary; a text that is short for {name: text} is written out.

    Args:
        data: values that `section` is going to be read from; it is changed.
        key: dotted field.
        value: its value.
        section: says where a text is short.

    Raises:
        ConfigError: something on the way has no fields.
    """
    *parents, field = key.split(".")
    for depth, parent in enumerate(parents, start=1):
        path = ".".join(parents[:depth])
        if isinstance(data.get(parent), str) and any(name == f"{path}.name" for name, _ in dotted_fields(section)):
            data[parent] = {"name": data[parent]}
        data[parent] = {} if data.get(parent) is None else data[parent]
        data = data[parent]
        if not isinstance(data, dict):
            raise ConfigError(f"--{key}: {path} holds {describe(data)}, which has no fields")
    data[field] = value


def describe(value: Any) -> str:
    """Return a value and its kind as an error message shows them: `'x' (text)`, `3 (an integer)`."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return "null" if value is None else f"{shown} ({_KINDS[type(value)]})"


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _sections(argument)


def _dotted_name(details: ErrorDetails, data: Any) -> str:
    """Return the field's name without what pydantic's location holds besides: the chosen members of unions."""
    location = details["loc"]
    keys = []
    for depth, key in enumerate(location, start=1):
        inside = key in _keys(data)
        if inside:
            data = data[key]
        if inside or (details["type"] == "missing" and depth == len(location)):
            keys.append(str(key))
    return ".".join(keys)


def _keys(data: Any) -> Collection[Any]:
    if isinstance(data, dict):
        return data
    return range(len(data)) if isinstance(data, list) else ()


def _expected_and_found(details: ErrorDetails, field: str, section: type[BaseModel]) -> tuple[str, str]:
    kind, message, context = details["type"], details["msg"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + _nearest(field, [name for name, _ in dotted_fields(section)]), ""
    if kind == "missing":
        return "expected a value", "none"
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        names, tag = context["expected_tags"], context["tag"]
        near = did_you_mean(tag, re.findall(r"'(.*?)'", names), count=1)
        return f"expected {key} {names.replace(', ', ' or ')}", repr(tag) + (near and f".{near}")
    if kind == "union_tag_not_found":
        return f"expected the key {context['discriminator']}", "none"
    if kind == "value_error":
        return message.removeprefix("Value error, "), ""
    if kind in ("too_short", "too_long"):
        bound = f"least {context['min_length']}" if kind == "too_short" else f"most {context['max_length']}"
        return f"expected at {bound} values", describe(details["input"])
    for old, new in _WORDS.items():
        message = message.replace(old, new)
    expected = message.removeprefix("Input should be ")
    if kind.startswith(("greater", "less", "multiple")):
        expected = f"a value {expected}"
    return f"expected {expected}", describe(details["input"])


def _nearest(field: str, names: list[str]) -> str:
    """Return a suggestion: the field meant by a misspelt, misplaced or inapplicable one."""
    if item := re.search(r"\.\d+\.", field):
        names = [name.replace(".0.", item[0]) for name in names]
    if any(name == field or name.startswith(f"{field}.") for name in names):
        return ": it belongs to another choice of " + field.rpartition(".")[0]
    parent, _, leaf = field.rpartition(".")
    same_leaf = dict.fromkeys(name for name in names if name.rpartition(".")[2] == leaf)
    if same_leaf:
        same_leaf = [name for name in same_leaf if name.startswith(f"{parent}.")] or same_leaf
        return f". Did you mean {' or '.join(map(repr, same_leaf))}?"
    return "." + did_you_mean(field, names, count=1)


def _line(where: str, complaints: list[tuple[str, str]]) -> str:
    """Join what the members of a union say one by one about the same field."""
    expected = " or ".join(dict.fromkeys(expected for expected, _ in complaints)).replace(" or expected ", " or ")
    found = complaints[0][1]
    return f"{where}: {expected}" + (f", found {found}" if found else "")
