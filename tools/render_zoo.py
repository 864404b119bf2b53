"""Write what follows from the zoo's entries: a card for each in model_cards/, docs/zoo.md and the README's tables.

python tools/render_zoo.py
"""

from pathlib import Path

from dit.files import write_text
from dit.markdown import between_markers
from dit.zoo.described import entry_card
from dit.zoo.entries import entries
from dit.zoo.tables import measured_table, zoo_document, zoo_table

ROOT = Path(__file__).resolve().parents[1]
TABLES = {"zoo": zoo_table, "measured": measured_table}
"""What stands between the markers <!-- NAME --> and <!-- /NAME --> of the README."""


def main() -> None:
    """Write all of them."""
    for name in entries():
        write_text(ROOT / "model_cards" / f"{name}.md", entry_card(name))
    write_text(ROOT / "docs" / "zoo.md", zoo_document())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, table in TABLES.items():
        readme = between_markers(readme, name, table())
    write_text(ROOT / "README.md", readme)


if __name__ == "__main__":
    main()
