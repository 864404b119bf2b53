"""`dit export`: a run becomes a folder that can be sampled, evaluated and published."""

from pathlib import Path


def run(run: Path, out: Path, /, adapter: bool = False, best: bool = False, half: bool = False) -> None:
    """Write a run's averaged weights, configuration, recipe and samples as a folder that stands alone.

    Args:
        run: run folder of `dit train`; its newest checkpoint that verifies is taken.
        out: new or empty folder.
        adapter: of a run that trained a part of another model's parameters (optim.trainable) write that part alone, a
            few megabytes that `dit sample SOURCE --adapter OUT` takes, in place of all weights.
        best: take the average whose samples were the best of those that train.evaluate_every measured.
        half: write the weights in float16, in half the bytes; measure the folder before you trust it.
    """
    from dit.zoo.export import export, find_best

    print(export(run, out, adapter=adapter, half=half, **(find_best(run) if best else {})))
