"""`dit export`: a run becomes a folder that can be sampled, evaluated and published."""

from pathlib import Path


def run(run: Path, out: Path, /) -> None:
    """Write a run's averaged weights, configuration, recipe and samples as a folder that stands alone.

    Args:
        run: run folder of `dit train`; its newest checkpoint that verifies is taken.
        out: new or empty folder.
    """
    from dit.zoo.export import export

    print(export(run, out))
