"""The base of every configuration class: strict types, unknown keys forbidden, one sentence per field."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from dit.yaml12 import parse_yaml


class Section(BaseModel):
    """One section of a recipe; the sentence under each field is its help text."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class OneOf:
    """Annotation of a field that holds one of several sections, by the `name` in it; a text is short for {name: text}.

    The sections are looked up when a value is read, so that a table to which others add is read as it is then.

    Args:
        sections: returns name -> section, each with a field `name`.
    """

    def __init__(self, sections: Callable[[], Mapping[str, type[Section]]]) -> None:
        self.sections = sections

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return how pydantic reads such a field."""
        return core_schema.with_info_plain_validator_function(self._read)

    def _read(self, value: Any, info: ValidationInfo) -> Section:
        if isinstance(value, Section):
            value = value.model_dump()
        fields = {"name": value} if isinstance(value, str) else value
        if not isinstance(fields, dict):
            raise PydanticCustomError("one_of", "Input should be a name or a mapping with one")
        if isinstance(value, str) and type(self) is OneOf and value not in self.sections():
            raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, self.sections()))})
        section = self.choose(fields)
        return (
            section.model_validate_json(json.dumps(fields)) if info.mode == "json" else section.model_validate(fields)
        )

    def choose(self, fields: Mapping[str, Any]) -> type[Section]:
        """Return the section that a mapping is read by."""
        sections = self.sections()
        if "name" not in fields:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "name"})
        name = fields["name"]
        if name not in list(sections):  # in a list, for a name need not be hashable
            tags = ", ".join(map(repr, sections))
            raise PydanticKnownError(
                "union_tag_invalid", {"discriminator": "name", "tag": str(name), "expected_tags": tags}
            )
        return sections[name]

    def name_field(self, field: FieldInfo) -> FieldInfo:
        """Return what the help text says of the name."""
        names: Any = Literal[*self.sections()]
        return FieldInfo(annotation=names, description=field.description)


def _with_brackets(value: Any) -> Any:
    is_text = isinstance(value, str) and "," in value
    return parse_yaml(f"[{value.strip(' []')}]", origin=value) if is_text else value


BareList = BeforeValidator(_with_brackets)
"""Annotation of a field that takes a list as a text too, without brackets, as on a command line: 0.1,0.8."""
