"""`dit models`: the networks that can be created by name."""

import sys
from collections.abc import Mapping, Sequence


def run(pattern: str = "*", /, pretrained: bool = False) -> None:
    """List the models that can be created by name, with their parameters and cost.

    The figures are those of the published setting: 1000 classes, and latents or pixels as `dit info NAME` shows them.
    One GMAC is a thousand million multiply-accumulates of one forward pass of one image; the DiT paper calls it Gflop.

    Args:
        pattern: names to list, * and ? stand for any characters, such as 'dit_*_2'.
        pretrained: list the names that have weights instead, with data, resolution, license and published FID.
    """
    if pretrained:
        _list_weights(pattern)
        return
    from dit.errors import ConfigError, did_you_mean
    from dit.models.families import list_models, variants
    from dit.zoo.tables import architecture_rows

    names = list_models(pattern)
    if not names:
        near = did_you_mean(pattern.strip("*?"), variants())
        raise ConfigError(f"models: no model fits {pattern!r}; `dit models` lists all.{near}")
    print_table(architecture_rows(names))


def _list_weights(pattern: str) -> None:
    from dit.errors import ConfigError, did_you_mean
    from dit.zoo.entries import entries, list_models
    from dit.zoo.tables import entry_rows

    names = list_models(pattern, pretrained=True)
    if not names:
        near = did_you_mean(pattern.strip("*?"), entries())
        raise ConfigError(f"models: no name with weights fits {pattern!r}; `dit models --pretrained` lists all.{near}")
    print_table(entry_rows(names))


def print_table(table: Sequence[Mapping[str, str]], *, headed: bool = False) -> None:
    """Print rows, column -> cell, a line each, numbers to the right; on a terminal below the names of the columns.

    Args:
        table: the rows.
        headed: whether the columns are named elsewhere too.
    """
    rows = [list(row.values()) for row in table]
    numeric = [all(set(cell) <= set("0123456789.,-") for cell in column) for column in zip(*rows, strict=True)]
    lines = [list(table[0]), *rows] if headed or sys.stdout.isatty() else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        aligned = zip(line, widths, numeric, strict=True)
        cells = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in aligned]
        print("  ".join(cells).rstrip())
