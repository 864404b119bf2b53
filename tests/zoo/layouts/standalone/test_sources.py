"""What is kept of modules, on small ones of our own."""

import ast
import sys

import pytest

from dit.zoo.layouts.standalone import sources
from dit.zoo.layouts.standalone.sources import Assembly

BASE = '''
"""The base, with two halves.

x = 1
"""

from math import pi, tau
from typing import Any, Protocol

from torch import Tensor

LIMIT = 3
"""The limit."""
UNUSED = 4


class Base:
    """A base."""

    used = 1
    unused = 2
    replayed: Any = None
    """What nobody reads."""

    def __init__(self) -> None:
        self.kept, self.both = pi, 1
        # What nobody reads.
        self.dropped = unread()

    def run(self) -> float:
        """Run."""
        return self.kept + self.used  # both

    def idle(self) -> float:
        """Do nothing."""
        return tau


def unread() -> int:
    return LIMIT


class HasSize(Protocol):
    """Something with a size."""

    size: int
    width: Tensor


def size_of(thing: HasSize) -> int:
    """Return its size."""
    return thing.size
'''
TOP = '''
"""The top."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dit.fake_base import LIMIT, Base
from dit.schema import Section

Size = Annotated[int, Field(ge=1)]


class Settings(Section):
    """Settings."""

    size: Size | list[Size] | None = 2
    """The size."""
    kind: Literal["a", "b"] = "a"
    """The kind."""
    never: int = 0
    """Read by none."""

    @model_validator(mode="after")
    def _check(self):
        return self


def top(settings: Settings) -> float:
    """Return what the base runs."""
    return Base().run() * LIMIT * settings.size * (settings.kind == "a")
'''


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Two modules as if they were of the package."""
    import dit

    for name, text in (("fake_base", BASE), ("fake_top", TOP)):
        (tmp_path / f"{name}.py").write_text(text.lstrip("\n"))
    monkeypatch.setattr(dit, "__path__", [*dit.__path__, str(tmp_path)])
    sources.read_module.cache_clear()
    yield
    sources.read_module.cache_clear()
    assert "dit.fake_top" not in sys.modules  # read, not run


PLAIN = {"dit.schema:Section": "dit.zoo.layouts.standalone.plain"}


def test_what_is_needed_is_there_in_order_and_nothing_else(modules):
    text = Assembly(PLAIN, frozenset({"of", "model_copy"}), only_read=True).text(["dit.fake_top:top"])
    for there in (
        "LIMIT = 3",
        '"""The limit."""',
        "# The base, with two halves.",
        "# both",
        "class Settings(Section):",
    ):
        assert there in text, there
    for gone in ("UNUSED", "unused", "idle", "tau", "unread", "dropped", "nobody reads", "never", "_check", "pydantic"):
        assert gone not in text, gone
    assert text.index("class Base") < text.index("def top")
    assert '    size: int | list[int] | None = 2\n    """The size."""\n    kind: Literal["a", "b"] = "a"\n' in text
    names = {}
    exec(compile(text, "assembled", "exec"), names)
    assert names["top"](names["Settings"](size=2)) == pytest.approx((3.141592653589793 + 1) * 3 * 2)
    assert names["Settings"].of({"size": 5, "foreign": 1}).model_copy(update={"kind": "b"}).size == 5


def test_fields_and_attributes_stay_where_they_may_be_read_from_outside(modules):
    text = Assembly(PLAIN).text(["dit.fake_top:top"])
    assert "never: int = 0" in text
    assert "self.dropped = unread()" in text
    assert "replayed" not in text
    assert "idle" not in text
    assert "idle" in Assembly(PLAIN, frozenset({"idle"})).text(["dit.fake_top:top"])


def test_a_protocol_says_what_is_asked_of_it(modules):
    text = Assembly(PLAIN, only_read=True).text(["dit.fake_base:size_of"])
    assert "    size: int\n" in text
    assert "width" not in text


def test_what_a_module_says_of_itself_goes_with_most_of_it(modules):
    assert "# The base, with two halves." not in Assembly(PLAIN).text(["dit.fake_base:LIMIT"])


def test_imports_are_in_two_groups(modules):
    besides = frozenset({("torch", "", "torch"), ("diffusers", "ModelMixin", "ModelMixin")})
    text = Assembly(PLAIN, imports=besides).text(["dit.fake_base:Base"])
    assert text.startswith("from math import pi\n\nimport torch\nfrom diffusers import ModelMixin\n\n\n")


def test_the_same_sources_give_the_same_text(modules):
    first, second = (Assembly(PLAIN).text(["dit.fake_top:top"]) for _ in range(2))
    assert first == second
    ast.parse(first)
