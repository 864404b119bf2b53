"""`dit bench`: how fast this is here, against what else there is and against the machine's limit."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def run(
    name: Annotated[str, Positional, arg(metavar="NAME")],
    json: Path | None = None,
    save: bool = False,
    rounds: int = 7,
    quick: bool = False,
) -> None:
    """Measure speed on this machine, beside diffusers and a plain network, and in percent of the machine's limit.

    All contenders run in turn; a ratio above 1 means that we are faster. The limit is the time of the matrix products
    alone, measured in the same run.

    Args:
        name: start, load, denoise, decode, sample, train-step, or all of them (ten minutes on two cores).
        json: also write the rows, with machine and versions, to this file.
        save: also write them to tools/results, named by machine, torch version and precision.
        rounds: rounds of each race, at least 1; long ones take fewer.
        quick: only see that everything runs: the smallest case of each.
    """
    from dit.bench.names import choose
    from dit.errors import ConfigError

    choose(name)
    if rounds < 1:
        raise ConfigError(f"--rounds: expected at least 1, found {rounds}")

    from dit.bench import run as bench
    from dit.bench.settings import Settings
    from dit.files import write_json
    from dit.verbs.models import print_table

    result = bench.run(name, Settings(rounds=rounds, quick=quick))
    files = [json] if json is not None else []
    if save:
        files.append(bench.result_path(name, result))
        files[-1].parent.mkdir(parents=True, exist_ok=True)
    for file in files:
        write_json(file, result)
    columns = ["benchmark", "case", "against", "ratio", "quartiles", "% of limit", "ours", "theirs", "unit"]
    print_table(columns, [_cells(row) for row in result["rows"]])


def _cells(row: dict) -> list[str]:
    percent = "-" if row["percent_of_limit"] is None else f"{row['percent_of_limit']:.0f}"
    spread = f"{row['low']:.2f}-{row['high']:.2f}"
    times = [f"{row[side]:.4g}" for side in ("ours", "theirs")]
    return [row["benchmark"], row["case"], row["peer"], f"{row['ratio']:.2f}", spread, percent, *times, row["unit"]]
