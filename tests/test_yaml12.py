import math

import pytest

from dit.errors import ConfigError
from dit.yaml12 import dump_yaml, parse_yaml, read_yaml

CORE_SCHEMA = {
    "null": None, "~": None, "": None, "NULL": None, "nUll": "nUll",
    "true": True, "True": True, "FALSE": False, "tRUE": "tRUE",
    "yes": "yes", "no": "no", "on": "on", "off": "off", "y": "y",
    "0": 0, "-7": -7, "+12": 12, "017": 17, "0o17": 15, "0x1F": 31, "1_000": "1_000", "12:30:45": "12:30:45",
    "1e-4": 1e-4, "1E5": 1e5, "-1.5e+3": -1500.0, ".5": 0.5, "5.": 5.0, "1.": 1.0, "1e": "1e", "1e-4x": "1e-4x",
    ".inf": math.inf, "-.Inf": -math.inf, "2024-01-01": "2024-01-01", "<<": "<<", "=": "=",
    "9" * 100_000: math.inf, "'1'": "1", '"null"': "null", "dit_s_2": "dit_s_2", "org/name@main": "org/name@main",
}  # fmt: skip


def same(one, other):
    return one == other and type(one) is type(other)


def test_scalars_are_read_by_the_core_schema_of_1_2():
    found = {text: parse_yaml(f"a: {text}")["a"] for text in CORE_SCHEMA}
    assert {text: value for text, value in found.items() if not same(value, CORE_SCHEMA[text])} == {}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' stands on line 1 already"),
        ("s:\n  x: 1\n  x: 1\n", 3, "the key 'x' stands on line 2 already"),
        ("a: 1\nb: !!python/object/apply:os.system ['touch x']\n", 2, "python/object/apply:os.system"),
        ("!!python/name:os.system\n", 1, "python/name:os.system"),
        ("a: !!binary aGk=\n", 1, "binary"),
        ("a: !mine 1\n", 1, "!mine"),
        ("a: &x 1\nb: *x\n", 1, "alias"),
        ("1: a\n", 1, "expected text as key"),
        ("[a]: 1\n", 1, "expected text as key"),
        ("a: 1\nb: [1, 2\n", 3, "not valid YAML"),
        ("a: 1\n--- \nb: 2\n", 2, "not valid YAML"),
        ("a:\n\tb: 1\n", 2, "not valid YAML"),
    ],
)
def test_what_could_run_code_or_be_overlooked_is_refused_with_its_line(text, line, words):
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, origin="r.yaml")
    assert str(error.value).startswith(f"r.yaml:{line}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_bottomless_nesting_is_one_line():
    with pytest.raises(ConfigError, match=r"^r\.yaml: nested too deeply$"):
        parse_yaml("[" * 10_000, origin="r.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "found nothing there"), (b"a: \xff", "expected UTF-8"), (b"a: \x00", "not valid YAML")],
)
def test_an_unreadable_file_is_named(tmp_path, content, words):
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(path) in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_dump_reads_back_equal():
    values = [*CORE_SCHEMA.values(), *CORE_SCHEMA, 1e-5, 1e22, 10**30, "0o7", "1e5", "é", "a: b"]
    found = parse_yaml(dump_yaml({"key": values}))["key"]
    assert [(value, again) for value, again in zip(values, found, strict=True) if not same(value, again)] == []
