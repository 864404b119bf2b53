"""`dit reproduce`: published figures beside the same figures measured here."""

from pathlib import Path


def run(
    entry: str | None = None,
    /,
    list_: bool = False,
    num: int | None = None,
    reference: Path | None = None,
    batch_size: int | None = None,
    processes: int = 1,
    device: str | None = None,
    out: Path | None = None,
    results: Path = Path("results.csv"),
) -> None:
    """Measure the published figure of weights in the zoo again, by its published setting and protocol.

    The figures agree where they differ by at most two standard errors and 2% of the published one. Models that are part
    of this package are measured as their cards say. The report is a file, and results.csv beside it gets a row. It goes
    on where it was stopped, and several processes share the work, as in dit evaluate.

    Args:
        entry: name of weights in the zoo, such as dit_xl_2.in256.
        list_: show what is claimed of which weights, by whom, and what --results says was measured; ENTRY may then be a
            pattern, such as 'dit_*'.
        num: number of images; fewer than the figure was published of are measured without a verdict.
        reference: file to measure against; ADM's of ImageNet is downloaded, 2 or 8 GB, others have to be named.
        batch_size: images at a time; it changes memory and speed, not the images but for rounding.
        processes: number of processes on this machine, each on an accelerator of its own where there are several.
        device: such as cpu, cuda or cuda:1; the process's accelerator, else the CPU, by default.
        out: the report; ENTRY.reproduced.json here by default.
        results: with --list, rows of measurements.
    """
    from dit import launcher
    from dit.errors import ConfigError, DitError
    from dit.measuring.reproduce import find_entry, reproduce, rows
    from dit.verbs.models import print_table
    from dit.zoo.entries import list_models

    if list_:
        names = list_models(entry or "*", pretrained=True)
        if not (table := list(rows(names, results))):
            raise ConfigError(f"{entry}: expected names of the zoo with a published figure, found none")
        print_table(table)
        return
    if entry is None:
        raise ConfigError("dit reproduce: expected ENTRY, a zoo name, found none; --list shows them")
    launcher.check_processes(processes)
    find_entry(entry)
    compared = reproduce(
        entry,
        num=num,
        reference=reference,
        batch_size=batch_size,
        processes=processes,
        device=device,
        out=out or Path(f"{entry}.reproduced.json"),
    )
    if compared:
        print_table([pair.cells for pair in compared], headed=True)
    if wrong := [pair for pair in compared if pair.verdict == "differs"]:
        claim, found = wrong[0].claim, wrong[0].measured
        raise DitError(
            f"{entry}: expected {claim.title} within {wrong[0].allowed:.2g} of the published {claim.value:.4g}, "
            f"measured {found.text}; results.csv says how"
        )
