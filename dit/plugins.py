"""A user's own Python files, `--plugin FILE`: families, solvers, data sources and feature extractors from outside.

A plugin is run once, before the command is parsed, and registers what it has. It is run because the command names it,
never because a folder does: a folder records a file's name and hash, for the line that asks for it.
"""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from dit.display import warn
from dit.errors import ConfigError, DitError
from dit.schema import Section
from dit.validation import validate


class Plugin(Section):
    """What a folder records of a plugin."""

    name: str
    """Name of the file."""
    sha256: str
    """Hash of its content."""


class MadeWith(BaseModel):
    """The part of config.json and run.json that names plugins."""

    plugins: tuple[Plugin, ...] = ()
    """The user's own files that it was made with; not written where there were none."""

    @model_serializer(mode="wrap")
    def _without_empty_list(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = handler(self)
        return values if values.get("plugins") else {name: values[name] for name in values if name != "plugins"}


_loaded: list[Plugin] = []


def loaded_plugins() -> tuple[Plugin, ...]:
    """Return the plugins of this process, in the order they were loaded."""
    return tuple(_loaded)


def load_plugin(path: Path) -> None:
    """Run a plugin, unless the same content was run before.

    Raises:
        ConfigError: the file can't be read, or fails; with the line.
    """
    try:
        code = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--plugin {path}: expected a Python file, found: {error.strerror}") from None
    plugin = Plugin(name=path.name, sha256=hashlib.sha256(code).hexdigest())
    if plugin in _loaded:
        return
    # The hash keeps two files of one name apart: a family names its network as f"{__name__}:Network".
    module = ModuleType(f"dit_plugin_{path.stem}_{plugin.sha256[:8]}")
    module.__file__ = str(path.absolute())
    sys.modules[module.__name__] = module
    try:
        exec(compile(code, module.__file__, "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[module.__name__]
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == module.__file__
        ]
        message = str(error) if isinstance(error, DitError) else f"{type(error).__name__}: {error}"
        if not lines and isinstance(error, SyntaxError):
            lines, message = [error.lineno], f"SyntaxError: {error.msg}"
        raise ConfigError(f"{path}:{lines[-1]}: {message}") from error
    _loaded.append(plugin)


@contextmanager
def made_with(content: Any, origin: Path) -> Iterator[None]:
    """Read what was made with plugins: an error names one that is missing, a notice one that has changed since.

    Args:
        content: of config.json or run.json.
        origin: what a message calls it.

    Raises:
        ConfigError: an error of the block, and which plugin is missing.
    """
    plugins = validate(MadeWith, content, origin=str(origin)).plugins
    try:
        yield
    except DitError as error:
        names = {plugin.name for plugin in _loaded}
        if missing := [plugin for plugin in plugins if plugin.name not in names]:
            wanted = " and ".join(f"{plugin.name} (sha256 {plugin.sha256[:12]})" for plugin in missing)
            options = " ".join(f"--plugin {plugin.name}" for plugin in missing)
            hint = f"it was made with {wanted}: add {options}, in Python import that file first"
            raise ConfigError(f"{str(error).rstrip('.')}; {hint}") from error
        raise
    for plugin in plugins:
        changed = [other for other in _loaded if other.name == plugin.name and other.sha256 != plugin.sha256]
        if changed:
            hashes = f"{changed[0].sha256[:12]}, then {plugin.sha256[:12]}"
            warn(f"{origin}: plugin {plugin.name} has changed since this was made (sha256 now {hashes})")
