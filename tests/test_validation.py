from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from dit.errors import ConfigError
from dit.schema import Section
from dit.validation import dotted_fields, validate


class Round(Section):
    shape: Literal["round"] = "round"
    radius: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Half the diameter."""


class Square(Section):
    shape: Literal["square"] = "square"
    side: int = Field(1, ge=1)
    sides: tuple[float, float] | None = None


class Part(Section):
    form: Annotated[Round | Square, Field(discriminator="shape")] = Round()
    size: Annotated[int, Field(ge=1)] | list[int] | None = None
    name: str = "a"
    hollow: bool = False
    wall: float | None = None

    @model_validator(mode="after")
    def _check(self):
        if self.wall is not None and not self.hollow:
            raise ConfigError("wall: expected none in a solid part")
        return self


class Box(Section):
    part: Part
    optim: Square = Square()


def message(data, **options):
    with pytest.raises(ConfigError) as error:
        validate(Box, data, origin="b.yaml", **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"size": "x"}, "part.size: expected an integer or a list, found 'x' (text)"),
        ({"size": 0}, "part.size: expected a value greater than or equal to 1 or a list, found 0 (an integer)"),
        ({"size": 1.0}, "part.size: expected an integer or a list, found 1.0 (a number)"),
        ({"name": 3}, "part.name: expected text, found 3 (an integer)"),
        ({"hollow": "no"}, "part.hollow: expected true or false, found 'no' (text)"),
        ({"hollow": None}, "part.hollow: expected true or false, found null"),
        ({"form": {"shape": "round", "radius": "1e-4"}}, "part.form.radius: expected a number, found '1e-4' (text)"),
        ({"form": {"shape": "round", "radius": -1}}, "part.form.radius: expected a value greater than 0, found -1"),
        ({"form": {"shape": "round", "radius": float("nan")}}, "part.form.radius: expected a finite number, found nan"),
        ({"form": {"shape": "rond"}}, "part.form: expected shape 'round' or 'square', found 'rond'"),
        ({"form": {"radius": 1.0}}, "part.form: expected the key 'shape', found none"),
        ({"form": 3}, "part.form: expected a mapping, found 3 (an integer)"),
        ({"form": {"shape": "square", "sides": [1, "x"]}}, "part.form.sides.1: expected a number, found 'x' (text)"),
        ({"form": {"shape": "square", "sides": [1]}}, "part.form.sides.1: expected a value, found none"),
        ({"form": {"shape": "square", "radius": 1.0}}, "part.form.radius: unknown key: it belongs to another choice"),
        ({"wall": 1.0}, "part.wall: expected none in a solid part"),
        ({"nam": "x"}, "part.nam: unknown key. Did you mean 'part.name'?"),
        ({"radius": 1.0}, "part.radius: unknown key. Did you mean 'part.form.radius'?"),
        ({"qqqqqq": 1.0}, "part.qqqqqq: unknown key"),
    ],
)
def test_a_wrong_value_names_field_expectation_and_finding(part, expected):
    assert message({"part": part}).startswith(f"b.yaml: {expected}")


def test_a_missing_field_is_named():
    assert message({}) == "b.yaml: part: expected a value, found none"


def test_a_misplaced_key_finds_its_section():
    assert message({"part": {}, "side": 3}).endswith("Did you mean 'part.form.side' or 'optim.side'?")


def test_several_errors_stay_on_one_line():
    line = message({"part": {"name": 1, "hollow": 1}, "optim": {"side": "x", "sid": 2}, "x": 1})
    assert line.count("; ") == 2
    assert line.endswith("(and 2 more)")


def test_all_fields_have_dotted_names_and_sentences():
    fields = dict(dotted_fields(Box))
    assert list(fields) == [
        "part.form.shape", "part.form.radius", "part.form.side", "part.form.sides",
        "part.size", "part.name", "part.hollow", "part.wall", "optim.shape", "optim.side", "optim.sides",
    ]  # fmt: skip
    assert fields["part.form.radius"].description == "Half the diameter."
