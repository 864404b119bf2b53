"""Break real training runs in every way of the fault matrix and say whether they survived.

    python tools/torture.py                 all rows, then 20 kills in one run of 200 steps (some 20 minutes)
    python tools/torture.py --short         a dozen rows, without the kills (what CI runs)
    python tools/torture.py --rows T1,C4    some rows

One line per row: pass or fail, whether the fault fired, how long it took. Exit code 1 if any row failed.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from torture_lab import Lab
from torture_rows import ROWS, SHORT, kill_at_random_moments


def main() -> int:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="names of rows, separated by commas; all by default")
    parser.add_argument("--short", action="store_true", help="only the rows of the short form")
    parser.add_argument("--kills", type=int, help="kills in the run of 200 steps; 20 by default, 0 in the short form")
    parser.add_argument("--work", type=Path, help="folder to work in, which is kept; a temporary one by default")
    options = parser.parse_args()
    names = options.rows.split(",") if options.rows else list(SHORT if options.short else ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"--rows: expected some of {', '.join(ROWS)}, found {', '.join(unknown)}")
    num_kills = options.kills if options.kills is not None else 0 if options.short or options.rows else 20
    work = options.work or Path(tempfile.mkdtemp(prefix="dit-torture-"))
    lab = Lab(work)
    passed = [attempt(name, (ROWS[name].__doc__ or "").rstrip("."), ROWS[name], lab) for name in names]
    if num_kills:
        title = f"kill -9 at {num_kills} random moments of 200 steps"
        passed.append(attempt("KILLS", title, lambda lab: kill_at_random_moments(lab, num_kills), lab))
    if options.work is None:
        shutil.rmtree(work)
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


def attempt(name: str, fault: str, row: Callable[[Lab], bool], lab: Lab) -> bool:
    """Run one row and print its line."""
    began = time.monotonic()
    try:
        fired, problem = row(lab), ""
    except AssertionError as error:
        fired, problem = None, f"  {error}"
    has_passed = fired is True
    words = {True: "fired", False: "DID NOT FIRE", None: "-"}[fired]
    seconds = time.monotonic() - began
    print(f"{name:<6}{'pass' if has_passed else 'FAIL'}  {words:<6} {seconds:6.0f} s  {fault}{problem}", flush=True)
    return has_passed


if __name__ == "__main__":
    sys.exit(main())
