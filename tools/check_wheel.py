"""Check what a wheel holds and how large it is: `python tools/check_wheel.py dist/*.whl`.

It has to hold what the package reads at run time (weights, recipes, cards), nothing of the tests or tools, and to stay
under the size that PyPI and a laptop's network take without a thought.
"""

import argparse
import sys
import zipfile
from collections import Counter
from pathlib import Path

LIMIT = 40_000_000
"""Bytes."""
NEEDED = (
    "dit/__init__.py",
    "dit/py.typed",
    "dit/assets/dit_ti_2.mnist/model.safetensors",
    "dit/assets/vae/mnist/diffusion_pytorch_model.safetensors",
    "dit/configs/dit_ti_2_mnist.yaml",
    "dit/zoo/model_cards/dit_xl_2.in256.md",
)


def problems(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel, a line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found = [f"{name}: expected in the wheel, not found" for name in NEEDED if name not in names]
    tops = {name.partition("/")[0] for name in names} - {"dit"}
    found += [f"{top}: expected nothing beside dit, found it" for top in tops if not top.endswith(".dist-info")]
    if (size := wheel.stat().st_size) > LIMIT:
        found.append(f"{wheel.name}: expected at most {LIMIT:,} bytes, found {size:,}")
    return found


def main() -> int:
    """Print the largest folders of each wheel, and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", nargs="+", type=Path)
    lines = []
    for wheel in parser.parse_args().wheels:
        with zipfile.ZipFile(wheel) as archive:
            sizes = Counter[str]()
            for item in archive.infolist():
                sizes["/".join(item.filename.split("/")[:3])] += item.compress_size
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes")
        for place, size in sizes.most_common(8):
            print(f"  {size:>12,}  {place}")
        lines += problems(wheel)
    print(*lines, sep="\n", file=sys.stderr, end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
