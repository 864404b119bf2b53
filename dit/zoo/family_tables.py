"""Tables of the documents' pages of families: the weights of each, and the settings of their published figures."""

from collections.abc import Mapping
from typing import Any

from dit.markdown import Row, markdown_table
from dit.models.families import family_of
from dit.zoo.entries import architecture_of, entries
from dit.zoo.tables import entry_rows, reported_figures

_WITH = {"mdtv2": "mdt"}
"""Family -> the family on whose page it is."""


def page_of(name: str) -> str:
    """Return the page of a zoo name: its family's; a DiT that was not trained by the Gaussian process is a SiT."""
    family = family_of(architecture_of(name)).name
    if family == "dit" and entries()[name].process != "gaussian":
        return "sit"
    return _WITH.get(family, family)


def family_pages() -> dict[str, list[str]]:
    """Return the names of the zoo by page, in the order of the zoo."""
    pages: dict[str, list[str]] = {}
    for name in entries():
        pages.setdefault(page_of(name), []).append(name)
    return pages


def family_tables(page: str) -> dict[str, str]:
    """Return the tables of a page by the marker that they stand in: `weights` and `published`."""
    names = family_pages()[page]
    weights = [_weights(row) for row in entry_rows(names)]
    published = [{"name": name, **_setting(name)} for name in names if entries()[name].published]
    return {
        "weights": markdown_table(weights, code=["name", "autoencoder"]),
        "published": markdown_table(published, code=["name"]) if published else "None is told in full.",
    }


def _weights(row: Row) -> Row:
    """Return an entry's row without its data, which hardly differ, and with all figures and the autoencoder."""
    entry = entries()[row["name"]]
    kept = {column: cell for column, cell in row.items() if column not in ("data", "FID as published")}
    return kept | {"FID as published": reported_figures(entry), "autoencoder": entry.vae}


def _setting(name: str) -> Row:
    """Return the fields of the published setting that the entry gives."""
    published = entries()[name].published
    assert published is not None
    values: Mapping[str, Any] = published.model_dump(exclude_unset=True)
    return {field.removeprefix("guidance_"): _cell(value) for field, value in values.items()}


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key.replace('_', ' ')} {_cell(item)}" for key, item in value.items() if key != "name")
        return f"{value['name']} ({rest})" if rest else str(value["name"])
    if isinstance(value, list | tuple):
        return " to ".join(map(_cell, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
