"""Labels of a data set's table: from names or numbers in a column to rows of a list of classes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dit.data.config import DataConfig
from dit.errors import ConfigError, DitError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

MAX_CLASSES = 2**20


@dataclass(frozen=True)
class Labels:
    """Labels of the usable records of a table."""

    values: np.ndarray
    """(N,) int64 class of each usable record."""
    rows: np.ndarray
    """(N,) int64 row of the table that each one came from."""
    class_names: tuple[str, ...]
    """Name of each class; empty for a table without labels."""
    rejected: tuple[str, ...]
    """One message per record that was left out."""


def read_labels(
    table: "Dataset", config: DataConfig, split: str, *, class_names: tuple[str, ...] | None = None
) -> Labels:
    """Read the label column.

    Args:
        table: one split of a data set.
        config: recipe section `data`.
        split: name of the split, for messages.
        class_names: classes of the training split, of which these labels must be; None: this is the training split.

    Raises:
        ConfigError: the column is not there, or holds neither names nor whole numbers.
        DitError: with `on_error: stop`, a label is missing or out of range; names the record and the valid range.
    """
    if config.label_column is None:
        zeros = np.zeros(len(table), dtype=np.int64)
        return Labels(zeros, np.arange(len(table)), (), ())
    column = _label_column(table, config.label_column)
    raw, names, classes = _read_column(column, config)
    class_names = classes if class_names is None else class_names
    number_of: dict[str | None, int] = {name: number for number, name in enumerate(class_names)}
    numbers = np.array([number_of.get(name, -1) for name in names], dtype=np.int64)
    rejected = tuple(
        f"{config.source} split {split} record {row}: {config.label_column}: expected {_describe(class_names)}, "
        f"found {raw[row]!r}"
        for row in np.flatnonzero(numbers < 0)
    )
    if rejected and config.on_error == "stop":
        raise DitError(rejected[0])
    rows = np.flatnonzero(numbers >= 0)
    return Labels(numbers[rows], rows, class_names, rejected)


def _label_column(table: "Dataset", wanted: str) -> "Dataset":
    """Return the one column of the classes; `json.label` and, if no other has it, `label` is a field of column json."""
    parents = {
        f"{name}.{field}" if isinstance(feature, dict) else name: name
        for name, feature in table.features.items()
        for field in (feature if isinstance(feature, dict) else [""])
    }
    inside = [name for name in parents if name.rpartition(".")[2] == wanted]
    found = [wanted] if wanted in parents else inside if len(inside) == 1 else []
    if not found and wanted == "label" and "cls" in parents:  # where WebDataset keeps it
        found = ["cls"]
    if not found:
        raise ConfigError(
            f"data.label_column: expected one of the columns {', '.join(parents)}, found {wanted!r}; name "
            f"the column of the classes, or null for images without classes.{did_you_mean(wanted, parents)}"
        )
    column = table.select_columns([parents[found[0]]])
    return column.flatten().select_columns(found) if parents[found[0]] != found[0] else column


def _read_column(table: "Dataset", config: DataConfig) -> tuple[list[Any], list[str | None], tuple[str, ...]]:
    """Return the values of the label column, the name of each one's class (None where it has none), and the classes.

    Of a training split these are the declared ones, or those that occur, or 0 to the largest.
    """
    from datasets import ClassLabel

    raw, feature = table.with_format(None)[:][table.column_names[0]], next(iter(table.features.values()))
    if isinstance(feature, ClassLabel):
        declared = dict(enumerate(feature.names))
        return raw, [declared.get(value) for value in raw], tuple(feature.names)
    dtype = str(getattr(feature, "dtype", type(feature).__name__))
    if dtype in ("string", "large_string"):
        return raw, raw, tuple(sorted(set(raw) - {None}))
    if dtype.startswith(("int", "uint")):
        numbers = [value if value is not None and 0 <= value < MAX_CLASSES else None for value in raw]
        last = max((number for number in numbers if number is not None), default=-1)
        return raw, [None if n is None else str(n) for n in numbers], tuple(map(str, range(last + 1)))
    raise ConfigError(
        f"data.label_column {config.label_column!r}: expected class names or whole numbers, found {dtype}"
    )


def _describe(class_names: tuple[str, ...]) -> str:
    """Return the valid range in a few words."""
    if len(class_names) <= 10:
        return f"one of the {len(class_names)} classes {', '.join(class_names)}"
    return f"a class in 0..{len(class_names) - 1} ({class_names[0]} .. {class_names[-1]})"
