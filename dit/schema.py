"""The base of every configuration class: strict types, unknown keys forbidden, one sentence per field."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of a recipe; the sentence under each field is its help text."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)
