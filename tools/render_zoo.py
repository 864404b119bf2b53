"""Write what follows from the zoo's entries: a card for each in model_cards/, docs/zoo.md and the README's table.

python tools/render_zoo.py
"""

import re
from pathlib import Path

from dit.files import write_text
from dit.zoo.described import entry_card
from dit.zoo.entries import entries
from dit.zoo.tables import zoo_document, zoo_table

ROOT = Path(__file__).resolve().parents[1]
TABLE = re.compile(r"(?<=<!-- zoo -->\n).*?(?=<!-- /zoo -->)", re.DOTALL)


def main() -> None:
    """Write all of them."""
    for name in entries():
        write_text(ROOT / "model_cards" / f"{name}.md", entry_card(name))
    write_text(ROOT / "docs" / "zoo.md", zoo_document())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    write_text(ROOT / "README.md", TABLE.sub(lambda _: f"\n{zoo_table()}\n\n", readme))


if __name__ == "__main__":
    main()
