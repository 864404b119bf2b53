"""YAML by the core schema of version 1.2, and nothing that could run code or be overlooked.

`1e-4` is a number, `no`, `on` and `12:30` are text, `0o17` is 15 and `017` is 17. Tags, aliases and a key given twice
are refused with their line. PyYAML parses; what a node means is decided here, because its own tables are those of 1.1.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from dit.errors import ConfigError

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,400}")  # longer ones are infinite floats rather than minutes of conversion
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF_OR_NAN = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DEFAULT_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: the file is missing or not such YAML; the message names it and the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected a YAML file, found nothing there") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: expected a YAML file, found a folder") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found {error.reason} at byte {error.start}") from None
    return parse_yaml(text, origin=str(path))


def parse_yaml(text: str, *, origin: str = "YAML") -> Any:
    """Parse one YAML document; `origin` is what an error message calls it.

    Raises:
        ConfigError: naming the line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
        return None if root is None else _value(root, origin, set())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{origin}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{origin}: nested too deeply") from None


def dump_yaml(value: Any) -> str:
    """Return YAML that `parse_yaml` reads back to an equal value, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _value(node: yaml.Node, origin: str, seen: set[int]) -> Any:
    where = f"{origin}:{node.start_mark.line + 1}"
    if id(node) in seen:
        raise ConfigError(f"{where}: the alias of this anchor is not read; write the value out where it is used")
    seen.add(id(node))
    if node.tag not in _DEFAULT_TAGS:
        raise ConfigError(f"{where}: the tag {node.tag!r} is not read; write a plain value")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node.value) if node.style is None else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, origin, seen) for item in node.value]
    return _mapping(node, origin, seen)


def _mapping(node: yaml.Node, origin: str, seen: set[int]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = _value(key_node, origin, seen) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise ConfigError(f"{origin}:{line}: expected text as key, found {key_node.value!r}")
        if key in lines:
            raise ConfigError(f"{origin}:{line}: the key {key!r} stands on line {lines[key]} already; keep one")
        lines[key] = line
        mapping[key] = _value(value_node, origin, seen)
    return mapping


def _scalar(text: str) -> str | int | float | bool | None:
    """Resolve a plain scalar by the core schema's table (YAML 1.2.2, section 10.3.2)."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INF_OR_NAN.fullmatch(text):
        return float(text.lower().replace(".", ""))
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes text that 1.1 or 1.2 would take for something else."""


for _kind, _pattern in [("int", _OCTAL_OR_HEX), ("int", _INT), ("float", _FLOAT)]:
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern.pattern})$"), list("-+.0123456789")
    )
