"""Time to quality on the digits: which recipe makes good samples first, on the machine that this runs on.

    python tools/race.py --output DIR [--plan tools/race.yaml] [--tune] [--docs]

A plan names contenders, recipes with fields changed, and the peer that they race against. A run is over where guided
samples of its average reach the target, 98.5% classified as asked and a Frechet distance of 2; its time is the seconds
of training up to there, without evaluations. The contenders run in turns, a seed each. No run takes longer than four
times the median of the contender that is first so far. --tune searches the peer's settings on the first seed, at most
ten, each as long as that median, and the peer races with the best of them.

DIR/NAME is a run's folder: what is done stays, and the same command goes on. DIR/records.json has a record for each
run; table.md, tuning.md and charts.png, the quality by seconds of training, grow with them. --docs adds the records to
docs/race.json and writes docs/race.md and docs/race.png from all of them.
"""

import argparse
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from compare_recipes import PREEMPTED, SEED, Run, check, line_by_seconds, middle, seconds_of, train
from pydantic import Field

from dit import axes
from dit.charts import COLOURS, Line, line_chart, save_charts
from dit.device import processor_name
from dit.errors import DitError
from dit.files import read_json, write_json, write_text
from dit.markdown import between_markers, markdown_table
from dit.run_files import read_rows
from dit.schema import Section
from dit.signals import StopSignals
from dit.validation import validate
from dit.yaml12 import read_yaml

ROOT = Path(__file__).resolve().parents[1]
ACCURACY, DISTANCE = 0.985, 2.0  # three times the distance's floor
ALLOWED = 4.0  # times the first contender's median
ALLOWED_TUNING = 1.0
ACCURACY_KEY, DISTANCE_KEY = "eval_accuracy", "eval_frechet_distance"
FIGURES = {
    ACCURACY_KEY: ("class accuracy", "{:.1%}"),
    DISTANCE_KEY: ("Frechet distance", "{:.2f}"),
    "eval_precision": ("precision", "{:.3f}"),
    "eval_recall": ("recall", "{:.3f}"),
}
"""Column of metrics.jsonl -> heading and format."""
PEER, TUNING = "the original", "tuning"

Record = Mapping[str, Any]
"""What came of a run."""


class Contender(Section):
    """A recipe, and what is changed of it."""

    recipe: str
    """File, or name of a shipped one."""
    changed: str = ""
    """What is changed, in words, for the table."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Dotted field -> value."""


class Plan(Section):
    """Who races."""

    common: dict[str, Any] = Field(default_factory=dict)
    """Fields of all."""
    contenders: Annotated[dict[str, Contender], Field(min_length=1)]
    """Name -> contender."""
    peer: Contender
    """Whom they race against."""
    tune: Annotated[tuple[dict[str, Any], ...], Field(max_length=10)] = ()
    """Settings that the search tries on the peer, each the fields that it changes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Race; return 0, 75 after a signal, or the exit code of the last run that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--plan", type=Path, default=ROOT / "tools" / "race.yaml", metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--docs", action="store_true")
    given = parser.parse_args(argv)
    plan = validate(Plan, read_yaml(given.plan), origin=str(given.plan))
    runs = {run.folder: run for run, _ in turns(plan, given.seeds, given.output, [], tune=given.tune)}
    check(list(runs.values()), [])
    path, code = given.output / "records.json", 0
    records = read_json(path) if path.is_file() else []
    with StopSignals() as signals:
        for run, allowed in turns(plan, given.seeds, given.output, records, tune=given.tune):
            limit = allowed * first_median(plan, records)
            if is_done(run, records, limit):
                continue
            ended = race(run, limit, signals)
            if signals.received:
                return PREEMPTED
            code = code if ended in (0, PREEMPTED) else ended  # one that diverges does not end the race
            put(records, [record_of(run, plan)])
            write(given.output, records)
    if given.docs:
        document(records, given.output / "charts.png", ROOT / "docs")
    print(table(records))
    return code


def race(run: Run, limit: float, signals: StopSignals) -> int:
    """Train until the target, the limit in seconds of training, the end of the recipe or a signal; return the code."""
    print(f"{run.folder.name}" + (f", at most {limit:.0f} seconds of training" if limit < math.inf else ""), flush=True)
    options = axes.as_options(run.values)
    return train(run.recipe, run.folder, options, lambda: bool(signals.received) or is_over(run, limit))


def turns(
    plan: Plan, seeds: int, output: Path, records: Sequence[Record], *, tune: bool
) -> Iterator[tuple[Run, float]]:
    """Yield each run, and how many times the first median it may take, as the records are when it is asked for."""

    def run_of(name: str, contender: Contender, seed: int, fields: Mapping[str, Any]) -> Run:
        values = plan.common | contender.fields | dict(fields) | {SEED: seed}
        return Run(contender.recipe, values, output / axes.as_name([name], {**fields, SEED: seed}), name)

    for seed in range(seeds):
        for name, contender in plan.contenders.items():
            yield run_of(name, contender, seed, {}), ALLOWED
        for setting in plan.tune if tune and seed == 0 else ():
            yield run_of(TUNING, plan.peer, seed, setting), ALLOWED_TUNING
        yield run_of(PEER, plan.peer, seed, best_setting(plan, records)), ALLOWED
    for seed in range(seeds):  # again, for the median may have grown
        yield run_of(PEER, plan.peer, seed, best_setting(plan, records)), ALLOWED


def best_setting(plan: Plan, records: Sequence[Record]) -> dict[str, Any]:
    """Return what the best run of the search changes of the peer: the first at the target, else the nearest to it."""
    searched = [record for record in records if record["contender"] == TUNING and DISTANCE_KEY in record]
    if not searched:
        return {}
    best = min(searched, key=lambda record: (time_of(record), record[DISTANCE_KEY]))
    return {field: value for field, value in best["fields"].items() if plan.peer.fields.get(field) != value}


def first_median(plan: Plan, records: Sequence[Record]) -> float:
    """Return the least median time to the target among the contenders; infinite where none has reached it."""
    times = [[time_of(record) for record in records if record["contender"] == name] for name in plan.contenders]
    return min((statistics.median(several) for several in times if several), default=math.inf)


def time_of(record: Record) -> float:
    """Return the seconds of training up to the target; infinite where it was not reached."""
    return math.inf if record["reached"] is None else record["reached"]


def is_good(row: Mapping[str, Any]) -> bool:
    """Tell whether the samples of a row of metrics reach the target."""
    return row.get(DISTANCE_KEY, math.inf) <= DISTANCE and row.get(ACCURACY_KEY, 0.0) >= ACCURACY


def is_over(run: Run, limit: float) -> bool:
    """Tell whether a run has reached the target, or the end of its time."""
    rows = read_rows(run.files.metrics)
    return any(map(is_good, rows)) or (bool(rows) and seconds_of(rows[-1]) >= limit)


def is_done(run: Run, records: Sequence[Record], limit: float) -> bool:
    """Tell whether there is nothing to add to a run's record within a limit."""
    found = next((record for record in records if record["run"] == run.folder.name), None)
    return found is not None and (found["ended"] or found["reached"] is not None or found["trained"] >= limit)


def record_of(run: Run, plan: Plan) -> Record:
    """Return what came of a run; its figures are those at the target, or the best on the way."""
    contender = plan.contenders.get(run.setting, plan.peer)
    rows = read_rows(run.files.metrics)
    evaluated = [row for row in rows if DISTANCE_KEY in row]
    good = next(filter(is_good, evaluated), None)
    shown = good or min(evaluated, key=lambda row: row[DISTANCE_KEY], default={})
    status = read_json(run.files.status) if run.files.status.is_file() else {}
    return {
        "run": run.folder.name,
        "contender": run.setting,
        "seed": run.values[SEED],
        "recipe": Path(run.recipe).stem,
        "changed": contender.changed,
        "fields": {field: value for field, value in run.values.items() if field not in (*plan.common, SEED)},
        "commit": commit(),
        "processor": processor_name(),
        "reached": good and seconds_of(good),
        "trained": seconds_of(rows[-1]) if rows else 0.0,
        "ended": status.get("state") == "done",
        **{key: shown[key] for key in ("step", *FIGURES) if key in shown},
    }


def commit() -> str:
    """Return the commit that runs, marked where the files are not its own; of no checkout nothing."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def put(records: list[Record], new: Sequence[Record], key: Sequence[str] = ("run",)) -> None:
    """Add records in place of those of the same runs."""
    names = [[record[field] for field in key] for record in new]
    records[:] = [record for record in records if [record[field] for field in key] not in names] + [*new]


def write(folder: Path, records: Sequence[Record]) -> None:
    """Write records, tables and charts."""
    write_json(folder / "records.json", list(records))
    write_text(folder / "table.md", table(records) + "\n")
    write_text(folder / "tuning.md", tuning_table(records) + "\n")
    if charts := list(draw(folder, records)):
        save_charts(charts, folder / "charts.png")


def groups(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Return the records of each contender at each commit, those of the search left out."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record["contender"] != TUNING:
            found.setdefault((record["contender"], record["commit"]), []).append(record)
    return found


def table(records: Sequence[Record]) -> str:
    """Return the table, a row for each contender at each commit."""
    by_group, rows = groups(records), []
    for (name, code), several in by_group.items():
        first, times = several[0], [time_of(record) for record in several]
        row = {"contender": name, "recipe": first["recipe"], "commit": code}
        row["reached"] = f"{sum(map(math.isfinite, times))} of {len(times)}"
        row["seconds of training"] = middle(times, "{:.0f}").replace("inf", "not reached")
        row[f"share of {PEER}'s"] = share_of(times, by_group.get((PEER, code), []))
        rows.append(row | figure_cells(several) | {"what is changed": changes_of(first)})
    return markdown_table(rows) if rows else "No run yet."


def tuning_table(records: Sequence[Record]) -> str:
    """Return the log of the search, a row for each run."""
    rows = [
        {
            "run": record["run"],
            "commit": record["commit"],
            "seconds of training": f"{record['trained']:.0f}",
            "target reached after": middle([time_of(record)], "{:.0f}").replace("inf", "not reached"),
            "best at step": f"{record.get('step', 0):,}",
            **figure_cells([record]),
        }
        for record in records
        if record["contender"] == TUNING
    ]
    return markdown_table(rows) if rows else "No run yet."


def figure_cells(several: Sequence[Record]) -> dict[str, str]:
    """Return the figures of some runs, their median and range."""
    known = {key: [record[key] for record in several if key in record] for key in FIGURES}
    return {FIGURES[key][0]: middle(values, FIGURES[key][1]) for key, values in known.items() if values}


def share_of(times: Sequence[float], peers: Sequence[Record]) -> str:
    """Return the median of times as a share of the peer's; of a peer that was stopped a bound."""
    own = statistics.median(times)
    if not peers or math.isinf(own):
        return ""
    theirs = statistics.median(map(time_of, peers))
    if math.isinf(theirs):
        return f"< {own / statistics.median(record['trained'] for record in peers):.2f}"
    return f"{own / theirs:.2f}"


def changes_of(record: Record) -> str:
    """Return what a contender changes, in words and as options."""
    options = " ".join(axes.as_options(record["fields"]))
    return "; ".join(filter(None, [record["changed"], options and f"`{options}`"]))


def draw(folder: Path, records: Sequence[Record]) -> Iterator[str]:
    """Yield a chart by seconds of training for the distance and for the accuracy, with the target."""
    for key, target in ((DISTANCE_KEY, DISTANCE), (ACCURACY_KEY, ACCURACY)):
        lines = []
        for number, ((name, _), several) in enumerate(groups(records).items()):
            logs = [read_rows(folder / record["run"] / "metrics.jsonl") for record in several]
            lines.append(line_by_seconds(name, logs, key, COLOURS[number % len(COLOURS)]))
        if ends := [max(line.x) for line in lines if line.x]:
            lines.append(Line("target", [0, max(ends)], [target, target], "#6b7280", dashed=True))
            title, log = FIGURES[key][0], key == DISTANCE_KEY
            yield line_chart(title, lines, x_label="seconds of training", y_label=title, log=log)


def document(records: Sequence[Record], charts: Path, docs: Path) -> None:
    """Add records to docs/race.json, and write the tables of race.md and race.png from them."""
    known = read_json(docs / "race.json")
    put(known, records, ("run", "commit"))
    write_json(docs / "race.json", known)
    if charts.is_file():
        shutil.copy(charts, docs / "race.png")
    text = (docs / "race.md").read_text(encoding="utf-8")
    write_text(docs / "race.md", filled_in(text, known))


def filled_in(text: str, records: Sequence[Record]) -> str:
    """Return docs/race.md with the tables of these records."""
    chart = "\n\n![Quality by seconds of training](race.png)" if records else ""
    text = between_markers(text, "race", table(records) + chart)
    return between_markers(text, "tuning", tuning_table(records))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DitError as error:
        sys.exit(f"race: {error}")
