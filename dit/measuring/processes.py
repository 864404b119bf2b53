"""An evaluation in several processes: all do their share, and one waits for the others and writes the report."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from dit import launcher


def parts_of(out: Path) -> Path:
    """Return the folder of what an evaluation has done so far."""
    return out.with_name(f"{out.name}.parts")


def in_processes(processes: int, out: Path, work: Callable[[launcher.Share, bool], None]) -> None:
    """Do some work in all processes: each is told its share, and whether it is the one that waits and writes `out`.

    Raises:
        Preempted: a signal came.
    """
    from dit.errors import Preempted

    began = time.time()
    try:
        if processes > 1:
            launcher.run_in_processes(processes, lambda: work(launcher.share(), False))
        # A launcher's process may come so late that its share was there, and the report has been written.
        if launcher.is_main() or not (out.is_file() and out.stat().st_mtime > began):
            work(launcher.share(), launcher.is_main())
    except KeyboardInterrupt:
        raise Preempted(f"{out}: stopped; what was measured is kept, and the same command goes on") from None
    if launcher.is_main():
        shutil.rmtree(parts_of(out), ignore_errors=True)
