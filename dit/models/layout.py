"""Foreign names for a network's tensors, as data of its family: what marks them, and how they map to ours.

A layout is recognised by the names in a file, never by the file's name. Reading and writing by it is the zoo's. Free of
torch.

`{i}` in a name stands for the number of a block.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dit.errors import DitError

Shapes = Mapping[str, Sequence[int]]
"""Tensor's name -> shape."""


class Kind(Enum):
    """How the foreign tensors of a rule hold the native one."""

    SAME = "the same tensor under another name"
    ROWS = "its rows, in order, cut into equal parts"
    COPIES = "a copy in every block"


@dataclass(frozen=True)
class Rule:
    """One native tensor, and where a layout keeps it."""

    native: str
    foreign: tuple[str, ...]
    kind: Kind = Kind.SAME
    optional: bool = False
    """Whether some networks of the family lack it; rules for blocks cover as many as there are anyway."""


def both(native: str, *foreign: str, kind: Kind = Kind.SAME, optional: bool = False) -> tuple[Rule, ...]:
    """Map the weight and the bias of a layer alike."""
    return tuple(
        Rule(f"{native}.{part}", tuple(f"{name}.{part}" for name in foreign), kind, optional)
        for part in ("weight", "bias")
    )


@dataclass(frozen=True)
class TrainedFor:
    """A process that weights of a layout are published for."""

    name: str
    """What `--process` and the zoo's entries call it."""
    process: Mapping[str, Any]
    """Section `process` of such weights; learn_sigma is taken from the network."""
    kind: str = ""
    """What such a model is called in a notice, with its article: "a SiT"."""
    models: tuple[str, ...] = ()
    """Beginnings of `args.model` in a training checkpoint that tell it."""
    args: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other arguments there -> the values, in lower case, that this process has."""


@dataclass(frozen=True)
class Layout:
    """How a family's tensors are named and wrapped in published files.

    The layouts of families further down in the table are tried first, a family's own in their order.
    """

    name: str
    """What it is called in messages."""
    marks: tuple[str, ...]
    """Names, with wildcards, each of which such a state dict holds."""
    without: tuple[str, ...] = ()
    """Names, with wildcards, none of which it holds."""
    prefix: str = ""
    """What all names begin with, those apart that are dropped; taken off before anything else is looked at."""
    dropped: tuple[str, ...] = ()
    """Names, with wildcards and with the prefix, that are no part of the model: left out with a notice."""
    rules: tuple[Rule, ...] = ()
    """How names map; a name that no rule speaks of is ours."""
    continued_by: str = ""
    """Beginning of the blocks whose numbers, which start anew, go on where those of `blocks.` end."""
    moments: tuple[str, ...] = ()
    """Names, among the dropped ones, of the mean and the variance of each latent channel, by which such weights know
    latents to be normalised."""
    weights: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"ema": ("ema",), "raw": ("model", "state_dict")}
    )
    """ema and raw -> keys of a training checkpoint under which these weights are, the preferred first; none where this
    layout's names are not those of such weights."""
    trained_for: tuple[TrainedFor, ...] = ()
    """Processes of such weights, the first where nothing tells it; a single one is told by the names."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Section `sampling` of such weights, as published; left out: that of DiT's pictures."""
    vae: str | None = None
    """Autoencoder of such weights where they have the family's default channels and the classes of ImageNet."""
    refused: str = ""
    """Why nothing of this layout can be read, where that is so."""


def count_blocks(names: Iterable[str], prefix: str = "blocks.") -> int:
    """Return the number of blocks that names with this beginning speak of.

    Raises:
        DitError: block numbers are left out.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d{1,9})\.", re.ASCII)
    numbers = {int(match[1]) for name in names if (match := pattern.match(name))}
    if numbers != set(range(len(numbers))):
        raise DitError(f"state dict: expected {prefix}0 to {prefix}{len(numbers) - 1}, found {prefix}{max(numbers)}")
    return len(numbers)


def expect_dimensions(shapes: Shapes, dimensions: Mapping[str, int]) -> None:
    """Refuse shapes in which a tensor is missing or has another number of dimensions.

    Raises:
        DitError: naming the tensor.
    """
    for name, number in dimensions.items():
        if len(shapes.get(name, ())) != number:
            found = list(shapes[name]) if name in shapes else "none"
            raise DitError(f"state dict: expected {name} with {number} dimensions, found {found}")


def square(num_tokens: int, patch_size: int) -> tuple[int, int] | None:
    """Return height and width of the square latent with so many patches; None where there is none."""
    side = round(num_tokens**0.5)
    return (side * patch_size, side * patch_size) if side * side == num_tokens else None


def only(values: Collection[Any]) -> Any:
    """Return the one value of a collection; None where there are several or none."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def patch_arguments(
    shapes: Shapes,
    given: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Any]],
    *,
    entrance: str = "x_embedder.proj.weight",
    labels: str = "y_embedder.embedding_table.weight",
    prefix_tokens: int = 0,
) -> dict[str, Any]:
    """Return what a patch projection, a label table and a table of positions tell; None for what they leave open.

    Args:
        shapes: of the tensors, named as ours.
        given: what the user adds.
        variants: of the family; every standard width has one number of heads.
        entrance: name of the patch projection (D, C, p, p).
        labels: name of the label table (K + 1 or K, D).
        prefix_tokens: positions of `pos_embed` before those of the patches.

    Raises:
        DitError: one of the tensors is missing or has another number of dimensions.
    """
    expect_dimensions(shapes, {entrance: 4, labels: 2} | ({"pos_embed": 3} if "pos_embed" in shapes else {}))
    width, channels, patch, _ = shapes[entrance]
    rows = shapes[labels][0]
    num_classes = given.get("num_classes", rows - 1)
    size = square(shapes["pos_embed"][1] - prefix_tokens, patch) if "pos_embed" in shapes else None
    return {
        "input_size": given.get("input_size") or size,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        # Not told; but every standard width has one number of heads.
        "num_heads": given.get("num_heads")
        or only([variant["num_heads"] for variant in variants.values() if variant["hidden_size"] == width]),
        "num_classes": num_classes,
        "class_dropout_prob": given.get("class_dropout_prob", 0.1 if rows == num_classes + 1 else 0.0),
    }


def mlp_ratio(width: int, hidden_size: int, *, gate: bool, usual: float = 4.0) -> float:
    """Return the ratio that gives an MLP this width: the usual one where it does, else another that does.

    Args:
        width: of the MLP.
        hidden_size: D.
        gate: whether the width is two thirds of ratio times D, rounded down.
        usual: the family's default.
    """
    exact = usual * hidden_size * (2 / 3 if gate else 1)
    if width in (int(exact - 1e-6), int(exact + 1e-6)):
        return usual
    return (1.5 * width + 1.25) / hidden_size if gate else width / hidden_size


def told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those that are None."""
    return {name: value for name, value in values.items() if value is not None}
