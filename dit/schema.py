"""The base of every configuration class: strict types, unknown keys forbidden, one sentence per field."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema


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
        sections = self.sections()
        if isinstance(value, str) and value not in sections:
            raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, sections))})
        fields = {"name": value} if isinstance(value, str) else value
        if not isinstance(fields, dict):
            raise PydanticCustomError("one_of", "Input should be a name or a mapping with one")
        if "name" not in fields:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "name"})
        name = fields["name"]
        if name not in list(sections):  # in a list, for a name need not be hashable
            tags = ", ".join(map(repr, sections))
            raise PydanticKnownError(
                "union_tag_invalid", {"discriminator": "name", "tag": str(name), "expected_tags": tags}
            )
        if info.mode == "json":
            return sections[name].model_validate_json(json.dumps(fields))
        return sections[name].model_validate(fields)
