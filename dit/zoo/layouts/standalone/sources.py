"""One readable file out of the package's own sources: what some names need, and nothing else.

A definition is kept if one that is kept refers to it; a method, if its name is read anywhere in what is kept. Texts are
copied as they stand, comments included, module by module, what is needed first. The same sources give the same text.
"""

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from dit.zoo.layouts.standalone.definitions import Definition, attributes_in, names_in

PACKAGE = "dit."
Place = tuple[str, str]
"""Module and name."""
MAX_LENGTH = 120
LEAST_SHARE = 0.25
"""Share of a module's lines from which on what it says of itself holds for what is kept of it."""
FOR_CHECKERS = r"  # (pyright|noqa): .*$"
SECTION = ("dit.schema", "Section")


@dataclass(frozen=True)
class Module:
    """A module's text and what its names are."""

    docstring: str
    lines: list[str]
    definitions: dict[str, ast.stmt]
    """Name -> statement at the top level."""
    notes: dict[str, ast.stmt]
    """Name -> the sentence that follows an assignment."""
    imports: dict[str, Place]
    """Name -> where it comes from; of a module itself the name is empty."""


@dataclass
class Assembly:
    """Definitions on their way into one file.

    Args:
        replaced: "module:name" -> module that has another definition of the name.
        read: names of methods that are called from outside.
        imports: what is imported besides, see `import_lines`.
        only_read: see `Definition.text`.
    """

    replaced: Mapping[str, str] = field(default_factory=dict)
    read: frozenset[str] = frozenset()
    imports: frozenset[tuple[str, str, str]] = frozenset()
    only_read: bool = False

    def text(self, roots: Iterable[str]) -> str:
        """Return the text of a file that defines "module:name" and all that it needs.

        Args:
            roots: what is wanted.
        """
        while True:
            kept: dict[Place, str] = {}
            for root in roots:
                module, _, name = root.partition(":")
                place = self.resolve(name, module)
                assert place is not None, root
                self._keep(place, kept)
            read = self.read.union(*map(attributes_in, kept.values()))
            if read == self.read:
                return self._joined(kept)
            self.read = read

    def resolve(self, name: str, where: str) -> Place | None:
        """Return where a name of a module is defined; None: not in this package."""
        module = read_module(where)
        if name in module.definitions:
            return self.replaced.get(f"{where}:{name}", where), name
        if name not in module.imports:
            return None  # a local name, or Python's
        source, original = module.imports[name]
        if not source.startswith(PACKAGE):
            return None
        assert original == name, f"{where} calls {source}'s {original} by another name"
        return self.resolve(name, source)

    def _keep(self, place: Place, kept: dict[Place, str]) -> None:
        if place in kept:
            return
        kept[place] = text = self._definition(place).text(self.read, only_read=self.only_read)
        for name in sorted(names_in(text)):
            if (found := self.resolve(name, place[0])) is not None:
                self._keep(found, kept)

    def _definition(self, place: Place) -> Definition:
        where, name = place
        module = read_module(where)
        node = module.definitions[name]
        return Definition(
            node,
            module.notes.get(name),
            module.lines,
            is_section=self._is_section(place),
            simple_type=lambda annotation: self._simple_type(annotation, where),
        )

    def _is_section(self, place: Place) -> bool:
        node = read_module(place[0]).definitions[place[1]]
        if not isinstance(node, ast.ClassDef):
            return False
        bases = [self.resolve(base.id, place[0]) for base in node.bases if isinstance(base, ast.Name)]
        return any(base is not None and (base[1] == SECTION[1] or self._is_section(base)) for base in bases)

    def _simple_type(self, annotation: ast.expr, where: str) -> ast.expr:
        """Return a type without its limits: that of Annotated, and what another name stands for."""
        if isinstance(annotation, ast.Name):
            place = self.resolve(annotation.id, where)
            node = read_module(place[0]).definitions[place[1]] if place else None
            return self._simple_type(node.value, place[0]) if place and isinstance(node, ast.Assign) else annotation
        if isinstance(annotation, ast.Subscript):
            name = ast.unparse(annotation.value)
            if name == "Annotated":
                assert isinstance(annotation.slice, ast.Tuple)
                return self._simple_type(annotation.slice.elts[0], where)
            if name != "Literal":
                return ast.Subscript(annotation.value, self._simple_type(annotation.slice, where), ast.Load())
        if isinstance(annotation, ast.Tuple):
            return ast.Tuple([self._simple_type(each, where) for each in annotation.elts], ast.Load())
        if isinstance(annotation, ast.BinOp):
            sides = (self._simple_type(side, where) for side in (annotation.left, annotation.right))
            return ast.BinOp(next(sides), annotation.op, next(sides))
        return annotation

    def _joined(self, kept: Mapping[Place, str]) -> str:
        names = [name for _, name in kept]
        assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
        parts = [self._imports(kept)]
        for where in self._in_order(kept):
            module = read_module(where)
            order = list(module.definitions)
            of_module = sorted((name for module, name in kept if module == where), key=order.index)
            texts = [kept[where, name] for name in of_module]
            share = sum(len(text.splitlines()) for text in texts) / len(module.lines)
            said = module.docstring.strip().splitlines() if share >= LEAST_SHARE else []
            about = [f"# {line}".rstrip() for line in said]
            parts.append("\n\n\n".join(["\n".join(about), *texts] if about else texts))
        return re.sub(FOR_CHECKERS, "", "\n\n\n".join(parts), flags=re.MULTILINE) + "\n"

    def _in_order(self, kept: Mapping[Place, str]) -> list[str]:
        """Return the modules, what is needed first."""
        order: list[str] = []

        def add(where: str) -> None:
            if where in order:
                return
            names = {name for (module, _), text in kept.items() if module == where for name in names_in(text)}
            places = (self.resolve(name, where) for name in names)
            for other in sorted({place[0] for place in places if place} - {where}):
                add(other)
            order.append(where)

        for where in sorted({where for where, _ in kept}):
            add(where)
        return order

    def _imports(self, kept: Mapping[Place, str]) -> str:
        found = set(self.imports)
        for (where, _), text in kept.items():
            imports = read_module(where).imports
            found |= {(*imports[name], name) for name in names_in(text) & imports.keys()}
            if self._is_section((where, _)):
                found.add(("dataclasses", "dataclass", "dataclass"))
        return import_lines({entry for entry in found if not entry[0].startswith(PACKAGE)})


def import_lines(found: Iterable[tuple[str, str, str]]) -> str:
    """Return the lines that import names, Python's own first: (module, name in it or nothing, what it is called)."""
    found = sorted(found)
    own = [entry for entry in found if entry[0].partition(".")[0] in sys.stdlib_module_names]
    groups = (own, [entry for entry in found if entry not in own])
    return "\n\n".join(_group_lines(group) for group in groups if group)


def _group_lines(found: list[tuple[str, str, str]]) -> str:
    whole = [f"import {module}" + (f" as {name}" if module != name else "") for module, each, name in found if not each]
    parts: dict[str, list[str]] = {}
    for module, each, name in found:
        if each:
            parts.setdefault(module, []).append(each if each == name else f"{each} as {name}")
    return "\n".join([*whole, *(_from_line(module, names) for module, names in parts.items())])


def _from_line(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= MAX_LENGTH:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in names), ")"])


@cache
def read_module(name: str) -> Module:
    """Read a module's source, without running it: what it defines and imports."""
    spec = find_spec(name)
    assert spec is not None, name
    source = Path(str(spec.origin)).read_text(encoding="utf-8")
    tree = ast.parse(source)
    module = Module(ast.get_docstring(tree) or "", source.splitlines(), {}, {}, {})
    for before, node in zip([None, *tree.body], tree.body, strict=False):
        if isinstance(node, ast.Expr) and isinstance(before, ast.Assign | ast.AnnAssign):
            module.notes.update(dict.fromkeys(_targets(before), node))
        for each in _imports_of(node):
            module.imports.update(each)
        for name in _targets(node):
            module.definitions[name] = node
    return module


def _imports_of(node: ast.stmt) -> Iterable[dict[str, Place]]:
    if isinstance(node, ast.If):  # for type checking alone
        for inner in node.body:
            yield from _imports_of(inner)
    if isinstance(node, ast.Import):
        yield {alias.asname or alias.name: (alias.name, "") for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        yield {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}


def _targets(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
