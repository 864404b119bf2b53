"""Foreign names for the same tensors, as data: which family a state dict belongs to, and how its names map to ours.

A family is recognised from the names in the file, never from the file's name. The original DiT and SiT, and what was
trained with their code, have our names; only wrappers such as `module.` are in the way. A new family is one new entry
in `FAMILIES`.

D width, K classes; `{i}` in a name stands for the number of a block.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from dit.errors import DitError
from dit.zoo.folder.safetensors_file import listed


class Kind(Enum):
    """How the foreign tensors of a rule hold the native one."""

    SAME = "the same tensor under another name"
    ROWS = "its rows, in order, cut into equal parts"
    COPIES = "a copy in every block"


@dataclass(frozen=True)
class Rule:
    """One native tensor, and where a family keeps it."""

    native: str
    foreign: tuple[str, ...]
    kind: Kind = Kind.SAME


@dataclass(frozen=True)
class Family:
    """A layout of names."""

    name: str
    """What it is called in messages."""
    marks: tuple[str, ...]
    """Names, with wildcards, each of which a state dict of this family holds."""
    rules: tuple[Rule, ...] | None
    """How names map; None: they are ours."""
    dropped: tuple[str, ...] = ()
    """Names, with wildcards, that are no part of the model: left out with a notice."""
    refused: str = ""
    """Why nothing of this family can be read, where that is so."""


def _both(native: str, *foreign: str, kind: Kind = Kind.SAME) -> tuple[Rule, ...]:
    """Map the weight and the bias of a layer alike."""
    return tuple(
        Rule(f"{native}.{part}", tuple(f"{name}.{part}" for name in foreign), kind) for part in ("weight", "bias")
    )


_BLOCK = "transformer_blocks.{i}"
_EMBEDDER = f"{_BLOCK}.norm1.emb"
_DIFFUSERS_RULES = (
    *_both("x_embedder.proj", "pos_embed.proj"),
    *_both("t_embedder.mlp.0", f"{_EMBEDDER}.timestep_embedder.linear_1", kind=Kind.COPIES),
    *_both("t_embedder.mlp.2", f"{_EMBEDDER}.timestep_embedder.linear_2", kind=Kind.COPIES),
    Rule(
        "y_embedder.embedding_table.weight",
        (f"{_EMBEDDER}.class_embedder.embedding_table.weight",),
        Kind.COPIES,
    ),
    *_both("blocks.{i}.adaLN_modulation.1", f"{_BLOCK}.norm1.linear"),
    *_both("blocks.{i}.attn.qkv", *(f"{_BLOCK}.attn1.to_{part}" for part in "qkv"), kind=Kind.ROWS),
    *_both("blocks.{i}.attn.proj", f"{_BLOCK}.attn1.to_out.0"),
    *_both("blocks.{i}.mlp.fc1", f"{_BLOCK}.ff.net.0.proj"),
    *_both("blocks.{i}.mlp.fc2", f"{_BLOCK}.ff.net.2"),
    *_both("final_layer.adaLN_modulation.1", "proj_out_1"),
    *_both("final_layer.linear", "proj_out_2"),
)

_ORIGINAL_MARKS = ("x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "final_layer.linear.weight")

FAMILIES = (
    Family(
        "LightningDiT",
        ("x_embedder.proj.weight", "blocks.*.mlp.w12.weight"),
        None,
        refused="its SwiGLU, RMSNorm and rotary positions are another network than the DiTs of this package",
    ),
    Family("REPA", (*_ORIGINAL_MARKS, "projectors.*"), None, dropped=("projectors.*",)),
    Family("DiT or SiT", _ORIGINAL_MARKS, None),
    Family("diffusers", ("pos_embed.proj.weight", "transformer_blocks.0.norm1.emb.*", "proj_out_2.weight"),
           _DIFFUSERS_RULES, dropped=("pos_embed.pos_embed",)),
)  # fmt: skip
"""In the order in which they are tried: the more special first."""

DIFFUSERS = FAMILIES[-1]


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


def recognise(names: Iterable[str]) -> Family:
    """Return the family whose names these are, wrappers taken off.

    Raises:
        DitError: none of them, or one that can't be read; the reason is given.
    """
    names = list(names)
    for family in FAMILIES:
        if all(any(fnmatchcase(name, mark) for name in names) for mark in family.marks):
            if family.refused:
                raise DitError(f"state dict: it is a {family.name}, which can't be read: {family.refused}")
            return family
    known = ", ".join(family.name for family in FAMILIES if not family.refused)
    raise DitError(f"state dict: expected the names of {known}, found {listed(names) or 'no tensor'}")


def to_native(tensors: Mapping[str, Tensor], family: Family) -> tuple[dict[str, Tensor], list[str]]:
    """Give a family's tensors our names.

    Returns:
        The tensors, and the names that were left out.

    Raises:
        DitError: a tensor is missing or unexpected, or copies differ from each other.
    """
    left_out = [name for name in tensors if any(fnmatchcase(name, pattern) for pattern in family.dropped)]
    rest = {name: tensor for name, tensor in tensors.items() if name not in left_out}
    if family.rules is None:
        return rest, left_out
    depth = count_blocks(rest)
    native: dict[str, Tensor] = {}
    for rule in family.rules:
        for name, foreign in _instances(rule, depth):
            if missing := [other for other in foreign if other not in rest]:
                raise DitError(f"state dict: {len(missing)} tensors are missing: {listed(missing)}")
            native[name] = _join(rule.kind, name, {other: rest.pop(other) for other in foreign})
    if rest:
        raise DitError(f"state dict: {len(rest)} tensors are unexpected: {listed(rest)}")
    return native, left_out


def from_native(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Give our tensors a family's names; the inverse of `to_native`.

    Raises:
        DitError: a tensor has no place there.
    """
    if family.rules is None:
        return dict(tensors)
    rest = dict(tensors)
    depth = count_blocks(rest)
    foreign: dict[str, Tensor] = {}
    for rule in family.rules:
        for name, others in _instances(rule, depth):
            foreign |= _SPLIT[rule.kind](rest.pop(name), others)
    if rest:
        raise DitError(f"state dict: the {family.name} layout has no place for {listed(rest)}")
    return foreign


def count_blocks(names: Iterable[str]) -> int:
    """Return the number of blocks that names of any family speak of.

    Raises:
        DitError: block numbers are left out.
    """
    pattern = re.compile(r"(?:transformer_)?blocks\.(\d{1,9})\.", re.ASCII)
    numbers = {int(match[1]) for name in names if (match := pattern.match(name))}
    if numbers != set(range(len(numbers))):
        raise DitError(f"state dict: expected blocks 0 to {len(numbers) - 1}, found a block {max(numbers)}")
    return len(numbers)


def _instances(rule: Rule, depth: int) -> list[tuple[str, list[str]]]:
    """Return (native name, foreign names) for every block that the rule speaks of."""
    if rule.kind is Kind.COPIES:
        return [(rule.native, [name.format(i=i) for i in range(depth) for name in rule.foreign])]
    blocks = range(depth) if "{i}" in rule.native else range(1)
    return [(rule.native.format(i=i), [name.format(i=i) for name in rule.foreign]) for i in blocks]


def _join(kind: Kind, native: str, tensors: Mapping[str, Tensor]) -> Tensor:
    first, *others = tensors.values()
    if kind is Kind.ROWS:
        return torch.cat([first, *others])
    if different := [name for name, other in tensors.items() if not torch.equal(first, other)]:
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
