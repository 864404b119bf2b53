"""The report of a measurement: where it goes, and what follows from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dit.making import Making

REPORT = "eval.json"


def report_path(source: str, making: Making) -> Path:
    """Return where a report goes: beside a model of the user's, else here; a cache or this package is left alone."""
    if making.quantize:
        return Path(f"eval.{making.quantize}.json")
    folder = making.locate(source).folder
    given, found = Path(source).resolve(), folder.resolve()
    return folder / REPORT if found in (given, *given.parents) or given in found.parents else Path(REPORT)


def write_report(out: Path, report: Mapping[str, Any]) -> None:
    """Write a report; in an exported folder the card is rendered anew."""
    from dit.display import say
    from dit.files import write_json
    from dit.zoo.cards.card import renew_card

    if out.is_file():
        say(f"replaced an earlier report in {out}")
    write_json(out, report)
    renew_card(out.parent)
    print(out)
