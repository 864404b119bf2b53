"""Write what follows from the zoo's entries: cards in model_cards/, docs/zoo.md, and tables of the README and families.

python tools/render_zoo.py
"""

from collections.abc import Mapping
from pathlib import Path

from dit.files import write_text
from dit.markdown import between_markers
from dit.zoo.described import entry_card
from dit.zoo.entries import entries
from dit.zoo.family_tables import family_pages, family_tables
from dit.zoo.tables import measured_table, zoo_document, zoo_table

ROOT = Path(__file__).resolve().parents[1]
TABLES = {"zoo": zoo_table, "measured": measured_table}
"""Tables of the README."""


def main() -> None:
    """Write all of them."""
    for name in entries():
        write_text(ROOT / "model_cards" / f"{name}.md", entry_card(name))
    write_text(ROOT / "docs" / "zoo.md", zoo_document())
    fill(ROOT / "README.md", {name: table() for name, table in TABLES.items()})
    for page in family_pages():
        fill(ROOT / "docs" / "families" / f"{page}.md", family_tables(page))


def fill(page: Path, tables: Mapping[str, str]) -> None:
    """Put tables between the markers <!-- NAME --> and <!-- /NAME --> of a page."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        text = between_markers(text, name, table)
    write_text(page, text)


if __name__ == "__main__":
    main()
