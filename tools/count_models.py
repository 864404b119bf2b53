"""Write dit/models/counts.json: parameters and cost of every variant and of every entry of the zoo.

python tools/count_models.py
"""

import json

import dit.models.counts as counts
from dit.models.families import arguments_of, list_models
from dit.zoo.entries import architecture_of, entries, entry_arguments


def main() -> None:
    """Count on the networks and write the file."""
    networks = [(name, arguments_of(name)) for name in list_models()]
    networks += [(architecture_of(name), entry_arguments(name)) for name in entries()]
    found = {counts.key(*network): counts.count_live(*network) for network in networks}
    lines = [f"  {json.dumps(key)}: {json.dumps(figures)}" for key, figures in found.items()]
    counts.PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
