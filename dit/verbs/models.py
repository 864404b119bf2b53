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
    print_rows(architecture_rows(names))


def _list_weights(pattern: str) -> None:
    from dit.errors import ConfigError, did_you_mean
    from dit.zoo.entries import entries, list_models
    from dit.zoo.tables import entry_rows

    names = list_models(pattern, pretrained=True)
    if not names:
        near = did_you_mean(pattern.strip("*?"), entries())
        raise ConfigError(f"models: no name with weights fits {pattern!r}; `dit models --pretrained` lists all.{near}")
    print_rows(entry_rows(names))


def print_rows(rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows, column -> cell, as `print_table` does."""
    print_table(list(rows[0]), [list(row.values()) for row in rows])


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table: ruled on a terminal, otherwise one plain line a row without a header; all but the first right."""
    if not sys.stdout.isatty():
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        for first, *others in rows:
            cells = [
                first.ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)),
            ]
            print("  ".join(cells).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    Console().print(table)
