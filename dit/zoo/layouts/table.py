"""State dicts by layout: which one their names are, and giving them our names and back."""

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from dit.errors import DitError
from dit.models.families import FAMILIES
from dit.models.family import Family
from dit.models.layout import Kind, Layout, Rule, count_blocks
from dit.tensors import listed


def strip_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take `module.` (data parallel) from the start of all names and `_orig_mod.` (torch.compile) from anywhere.

    Raises:
        DitError: two names become the same.
    """
    stripped = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    while stripped and all(name.startswith("module.") for name in stripped):
        stripped = {name.removeprefix("module."): tensor for name, tensor in stripped.items()}
    if len(stripped) != len(tensors):
        raise DitError("state dict: two names are the same without their wrappers `module.` and `_orig_mod.`")
    return stripped


def recognise(names: Iterable[str], weights: str = "ema") -> tuple[Family, Layout]:
    """Return the family and the layout whose names these are.

    Args:
        names: general wrappers taken off.
        weights: ema or raw, of a dictionary that holds both; layouts without these are passed over.

    Raises:
        DitError: none of them, or one that can't be read; the reason is given.
    """
    names = list(names)
    known = [(family, layout) for family in reversed(FAMILIES.values()) for layout in reversed(family.layouts)]
    for family, layout in known:
        if not layout.weights[weights]:
            continue
        own = [name.removeprefix(layout.prefix) for name in names if not _is_any(name, layout.dropped)]
        has_prefix = all(name.startswith(layout.prefix) for name in names if not _is_any(name, layout.dropped))
        marked = all(any(fnmatchcase(name, mark) for name in (*own, *names)) for mark in layout.marks)
        if has_prefix and marked and not any(_is_any(name, layout.without) for name in own):
            if layout.refused:
                raise DitError(f"state dict: it is a {layout.name}, which can't be read: {layout.refused}")
            return family, layout
    possible = ", ".join(layout.name for _, layout in known if not layout.refused)
    raise DitError(f"state dict: expected the names of {possible}, found {listed(names) or 'no tensor'}")


def _is_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def to_native(tensors: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """Give a layout's tensors our names; what no rule speaks of keeps its own.

    Returns:
        The tensors, and the names that were left out.

    Raises:
        DitError: a tensor is missing, or copies differ from each other.
    """
    left_out = [name for name in tensors if _is_any(name, layout.dropped)]
    rest = {name.removeprefix(layout.prefix): tensor for name, tensor in tensors.items() if name not in left_out}
    if layout.continued_by:
        rest = _counted_on(rest, layout.continued_by)
    native: dict[str, Tensor] = {}
    for rule in layout.rules:
        for name, foreign in _instances(rule, rule.foreign[0], rest):
            if missing := [other for other in foreign if other not in rest]:
                raise DitError(f"state dict: {len(missing)} tensors are missing: {listed(missing)}")
            native[name] = _join(rule.kind, name, {other: rest.pop(other) for other in foreign})
    return native | rest, left_out


def from_native(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Give our tensors a layout's names; the inverse of `to_native`."""
    rest = dict(tensors)
    # The foreign beginning of a stack of blocks -> one of our names in it, for rules that have none.
    stacks = {rule.foreign[0].partition("{i}")[0]: rule.native for rule in layout.rules if "{i}" in rule.native}
    foreign: dict[str, Tensor] = {}
    for rule in layout.rules:
        for name, others in _instances(rule, stacks.get(rule.foreign[0].partition("{i}")[0], rule.native), rest):
            foreign |= _SPLIT[rule.kind](rest.pop(name), others)
    return {layout.prefix + name: tensor for name, tensor in (foreign | rest).items()}


def _counted_on(tensors: Mapping[str, Tensor], stack: str) -> dict[str, Tensor]:
    """Give the blocks of a second stack the numbers after those of `blocks.`."""
    first, number = count_blocks(tensors), re.compile("^" + re.escape(stack) + r"(0|[1-9]\d{0,8})\.", re.ASCII)
    return {
        number.sub(lambda found: f"blocks.{first + int(found[1])}.", name): tensor for name, tensor in tensors.items()
    }


def _instances(rule: Rule, counted: str, tensors: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return (native name, foreign names) for every block that the rule speaks of, counted by a name with `{i}`."""
    if "{i}" not in rule.foreign[0]:
        return [] if rule.optional and counted not in tensors else [(rule.native, list(rule.foreign))]
    blocks = range(count_blocks(tensors, counted.partition("{i}")[0]))
    if rule.kind is Kind.COPIES:
        return [(rule.native, [name.format(i=i) for i in blocks for name in rule.foreign])]
    return [(rule.native.format(i=i), [name.format(i=i) for name in rule.foreign]) for i in blocks]


def _join(kind: Kind, native: str, tensors: Mapping[str, Tensor]) -> Tensor:
    first, *others = tensors.values()
    if kind is Kind.ROWS:
        return torch.cat([first, *others])
    if different := [name for name, other in list(tensors.items())[1:] if not torch.equal(first, other)]:
        raise DitError(
            f"state dict: {native} is one tensor here, and its copies differ in {listed(different)}; "
            "the model was trained further with separate ones, which this architecture does not have"
        )
    return first


_SPLIT: dict[Kind, Callable[[Tensor, list[str]], dict[str, Tensor]]] = {
    Kind.SAME: lambda tensor, names: {names[0]: tensor},
    Kind.ROWS: lambda tensor, names: dict(zip(names, tensor.chunk(len(names)), strict=True)),
    # Separate memory, since safetensors writes no tensor twice.
    Kind.COPIES: lambda tensor, names: {name: tensor.clone() for name in names},
}
