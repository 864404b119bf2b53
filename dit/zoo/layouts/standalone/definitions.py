"""The text of one definition, without what nobody in the file reads.

Of a class goes a method, or an attribute of the class, whose name is read nowhere. A section of settings becomes a
dataclass: its fields keep their values and sentences, types lose their limits, and checks are left to this package.
"""

import ast
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

DECORATOR = "@dataclass(frozen=True, kw_only=True)"
CHECKS = {"model_validator", "field_validator", "field_serializer", "model_serializer"}


@dataclass(frozen=True)
class Definition:
    """A statement at the top level of a module."""

    node: ast.stmt
    """The statement."""
    note: ast.stmt | None
    """The sentence that follows an assignment."""
    lines: list[str]
    """The module's text."""
    is_section: bool
    """Whether it is a class of settings."""
    simple_type: Callable[[ast.expr], ast.expr]
    """Takes the limits out of a type of its module."""

    def text(self, read: frozenset[str], *, only_read: bool) -> str:
        """Return its text for the names that are read.

        Args:
            read: names of attributes.
            only_read: whether fields of settings, and what a class is given at its start, go too if nobody reads them.
        """
        if not isinstance(self.node, ast.ClassDef):
            return "\n".join(self.lines[self._first_line(self.node) - 1 : (self.note or self.node).end_lineno])
        kept = list(self._body(self.node, read, only_read=only_read))
        head = self._source(self.node, until=self.node.body[0].lineno - 1)
        if self.is_section:
            head = f"{DECORATOR}\n{head}"
        return re.sub(r"\n\n+", "\n\n", "\n".join([head, *kept])).rstrip() if kept else f"{head}\n    pass"

    def _body(self, node: ast.ClassDef, read: frozenset[str], *, only_read: bool) -> Iterator[str]:
        was_kept = True
        for i, statement in enumerate(node.body):
            if _is_sentence(statement):
                if was_kept:
                    yield self._source(statement)
                    if i == 0 and len(node.body) > 1:
                        yield ""
                continue
            was_kept = self._is_read(statement, node, read, only_read=only_read)
            if not was_kept:
                continue
            if isinstance(statement, ast.FunctionDef):
                yield ""
                drop = only_read and statement.name == "__init__"
                yield self._source(statement, without=_unread_stores(statement, read) if drop else [])
            elif self.is_section and isinstance(statement, ast.AnnAssign) and not _is_of_class(statement):
                yield self._field(statement)
            else:
                yield self._source(statement)

    def _is_read(self, statement: ast.stmt, owner: ast.ClassDef, read: frozenset[str], *, only_read: bool) -> bool:
        if isinstance(statement, ast.FunctionDef):
            if any(name in ast.unparse(each) for each in statement.decorator_list for name in CHECKS):
                return False
            return statement.name in read or (statement.name.startswith("__") and statement.name.endswith("__"))
        if isinstance(statement, ast.Assign):
            return any(isinstance(target, ast.Name) and target.id in read for target in statement.targets)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            is_read = statement.target.id in read
            if _is_of_class(statement) or any(ast.unparse(base) == "Protocol" for base in owner.bases):
                return is_read
            if any("dataclass" in ast.unparse(each) for each in owner.decorator_list):
                return True
            if self.is_section:
                return is_read or not only_read
            return is_read if statement.value else not only_read  # without a value it says nothing but a type
        return True

    def _field(self, statement: ast.AnnAssign) -> str:
        kind, value = (quoted(each) for each in (self.simple_type(statement.annotation), statement.value))
        return f"    {ast.unparse(statement.target)}: {kind}" + (f" = {value}" if value else "")

    def _source(self, node: ast.stmt, *, until: int | None = None, without: list[ast.stmt] | None = None) -> str:
        """Return the lines of a statement, its decorators and the comments above it."""
        first, last = self._first_line(node), until or node.end_lineno or node.lineno
        dropped = {line for each in without or [] for line in range(self._first_line(each), (each.end_lineno or 0) + 1)}
        kept = [self.lines[number - 1] for number in range(first, last + 1) if number not in dropped]
        if without and isinstance(node, ast.FunctionDef) and len(without) == len(node.body):
            kept.append("        pass")
        return "\n".join(kept)

    def _first_line(self, node: ast.stmt) -> int:
        """Return the line where a statement begins, with its decorators and the comments above it."""
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        while self.lines[first - 2].strip().startswith("#"):
            first -= 1
        return first


def quoted(expression: ast.expr | None) -> str:
    """Return the text of an expression, strings in it in double quotes."""
    return "" if expression is None else ast.unparse(expression).replace("'", '"')


def names_in(text: str) -> set[str]:
    """Return every name that a text refers to, those of its own variables among them."""
    tree = ast.parse(text)
    quoted = {
        each.annotation.value
        for each in ast.walk(tree)
        if isinstance(each, ast.arg | ast.AnnAssign)
        and isinstance(each.annotation, ast.Constant)
        and isinstance(each.annotation.value, str)
    }
    found = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
    return found.union(*(names_in(annotation) for annotation in quoted))


def attributes_in(text: str) -> set[str]:
    """Return the names that a text reads of objects: as attributes, by keyword, or by a string that is a name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(text))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.add(node.attr)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            found.add(node.target.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


def _is_sentence(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_of_class(statement: ast.AnnAssign) -> bool:
    return "ClassVar" in ast.unparse(statement.annotation)


def _unread_stores(function: ast.FunctionDef, read: frozenset[str]) -> list[ast.stmt]:
    """Return the assignments to attributes of self that nobody reads."""
    return [
        statement
        for statement in function.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if isinstance(target, ast.Attribute) and target.attr not in read
    ]
