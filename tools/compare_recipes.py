"""Train recipes one after the other on this machine and put what came of them into one table and pictures.

    python tools/compare_recipes.py [RECIPE ...] --output DIR [--vary FIELD=VALUE,...] [--section.field VALUE ...]
    python tools/compare_recipes.py dit_ti_2_mnist --vary optim.name=adamw,muon --vary train.seed=0,1,2 --output DIR

Without names: every shipped recipe of the digits. A FIELD is one of the recipe, its values in YAML; every combination
is trained. Runs that differ in train.seed alone are one row: the median and the range. With train.evaluate_every a
column compares at the same time, that of the quickest; take a constant learning rate then, for one that falls is still
high there in the other runs.

DIR/NAME is a run's folder: a finished run is not trained again, an interrupted one goes on. DIR/table.md and table.json
(a row for each run), and charts.png, the validation loss and the quality by the seconds of training, grow run by run;
DIR/samples.png has a row of samples for each setting.
"""

import argparse
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dit import axes
from dit.charts import COLOURS, Line, line_chart, save_charts
from dit.cli import split_overrides
from dit.config import load_recipe
from dit.errors import ConfigError, DitError
from dit.figures import FIGURES_NAME, Measured, conditions, figure_cells, read_figures
from dit.files import read_json, write_json, write_text
from dit.markdown import markdown_table
from dit.models.counts import count
from dit.models.families import arguments_of
from dit.recipes import list_recipes
from dit.run_files import RunFiles, read_rows

BASELINE = "dit_ti_2_mnist"
SEED = "train.seed"
PREEMPTED = 75
POLL_SECONDS = 1.0
NUM_SAMPLES = 20  # in a row of the picture, the classes in turn
COLUMNS = {
    "parameters": ("parameters", "{:,}"),
    "steps": ("steps", "{:,}"),
    "seconds": ("seconds of training", "{:.0f}"),
    "ratio": ("times the first", "{:.2f}"),
    "validation_loss": ("validation loss", "{:.3f}"),
}
"""Key of a row -> heading and format; a loss is in the terms of its process. Figures of the samples follow."""
ON_THE_WAY = {"val_loss": "Validation loss", "eval_frechet_distance": "Frechet distance on the way"}
"""Column of metrics.jsonl -> title of its chart."""
CHARTED = ("fid", "frechet_distance", "fd_dinov2")
"""What the chart of quality shows: the first of these that was measured."""


@dataclass(frozen=True)
class Run:
    """One training."""

    recipe: str
    """File, or name of a shipped one."""
    values: Mapping[str, Any]
    """Field -> value, of those that vary."""
    folder: Path
    """The run's."""
    setting: str
    """What tells it from the others, but for the seed."""

    @property
    def files(self) -> RunFiles:
        """Paths in its folder."""
        return RunFiles(self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether it was trained and evaluated."""
        return (self.files.export / FIGURES_NAME).is_file()


Settings = Mapping[str, Sequence[tuple[Run, dict[str, Any]]]]
"""Setting -> its runs, one for each seed, and the row of each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train and evaluate what is not there yet; return 0, or the exit code of the last command that failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--vary", action="append", default=[], metavar="FIELD=VALUE,...")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    options, overrides = parser.parse_known_args(argv)
    chosen = options.recipes or [name for name in list_recipes() if name.endswith("_mnist")]
    runs = list(plan(chosen, axes.parse_axes(options.vary), options.output))
    check(runs, overrides)
    code, found = 0, {}
    for number, run in enumerate(runs, start=1):
        print(f"[{number}/{len(runs)}] {run.folder.name}", flush=True)
        if not run.is_finished and (
            failed := train(run.recipe, run.folder, [*overrides, *axes.as_options(run.values)])
        ):
            code = failed
            if failed == PREEMPTED:
                break
            continue
        found.setdefault(run.setting, []).append((run, read_row(run)))
        write(options.output, found)
    if found:
        print(table(found))
        draw_samples({name: several[0][0].folder for name, several in found.items()}, options.output / "samples.png")
    return code


def plan(recipes: Sequence[str], varied: Mapping[str, Sequence[Any]], output: Path) -> Iterator[Run]:
    """Yield every run, the baseline's first and those of the other recipes as they were given."""
    for recipe in sorted(recipes, key=lambda recipe: Path(recipe).stem != BASELINE):
        for values in axes.combinations(varied):
            apart = {field: value for field, value in values.items() if field != SEED}
            name, setting = (axes.as_name([Path(recipe).stem], fields) for fields in (values, apart))
            yield Run(recipe, values, output / name, setting)


def check(runs: Sequence[Run], overrides: Sequence[str]) -> None:
    """Refuse fields and values of shipped recipes that are none before anything is trained.

    Raises:
        ConfigError: naming the field; or two runs would have the same folder.
    """
    if len({run.folder for run in runs}) < len(runs):
        raise ConfigError("RECIPE, --vary: expected runs of different names, found two of one name")
    for run in runs if any(run.values for run in runs) else ():
        _, fields = split_overrides([*overrides, *axes.as_options(run.values)])
        load_recipe(run.recipe, fields)


def train(recipe: str, folder: Path, overrides: Sequence[str], is_enough: Callable[[], bool] = lambda: False) -> int:
    """Run `dit train`, which evaluates too, in a process of its own; return its exit code.

    Once it is enough, the process is asked to stop, with a checkpoint; the code is that of a stop then.
    """
    is_asked = False
    command = [sys.executable, "-m", "dit", "train", recipe, "--output", str(folder), "--resume", *overrides]
    with subprocess.Popen(command) as process:
        while True:
            try:
                code = process.wait(timeout=POLL_SECONDS)
                return PREEMPTED if is_asked and code == -signal.SIGTERM else code
            except subprocess.TimeoutExpired:
                if not is_asked and is_enough():  # once: after the checkpoint a second signal would kill
                    is_asked = True
                    process.terminate()


def read_row(run: Run) -> dict[str, Any]:
    """Return what the files of a finished run say."""
    files = run.files
    model = read_json(files.export / "config.json")["model"]
    status, figures = read_json(files.status), read_figures(files.export)
    losses = [row["val_loss"] for row in read_rows(files.metrics) if "val_loss" in row]
    return {
        "recipe": Path(run.recipe).stem,
        **run.values,
        "parameters": count(model["name"], arguments_of(model["name"], **model["arguments"])).parameters,
        "steps": status["step"],
        "seconds": seconds_of(status),
        "validation_loss": losses[-1] if losses else None,
        "figures": [vars(figure) for figure in (figures.measured if figures else [])],
    }


def seconds_of(row: Mapping[str, Any]) -> float:
    """Return the seconds that training took by a status or a row of metrics: steps, and waits for data."""
    return row["seconds"]["train"] + row["seconds"].get("data", 0.0)


def write(folder: Path, found: Settings) -> None:
    """Write the tables and the charts of what is finished."""
    rows = [row for several in found.values() for _, row in several]
    write_json(folder / "table.json", [row | {"ratio": row["seconds"] / rows[0]["seconds"]} for row in rows])
    write_text(folder / "table.md", table(found))
    if charts := list(draw(found)):
        save_charts(charts, folder / "charts.png")


def table(found: Settings) -> str:
    """Return the table, a row for each setting, below lines that say what all its figures have in common."""
    unit = statistics.median(row["seconds"] for _, row in next(iter(found.values())))
    quickest = min(row["seconds"] for several in found.values() for _, row in several)
    cells = []
    for name, several in found.items():
        rows = [row for _, row in several]
        cells.append({"recipe": name})
        if any(len(runs) > 1 for runs in found.values()):
            cells[-1]["seeds"] = str(len(rows))
        for key, (heading, form) in COLUMNS.items():
            values = [row["seconds"] / unit if key == "ratio" else row[key] for row in rows]
            if known := [value for value in values if value is not None]:
                cells[-1][heading] = middle(known, form)
        in_time = [distance_in_time(read_rows(run.files.metrics), quickest) for run, _ in several]
        if known := [distance for distance in in_time if distance is not None]:
            cells[-1][f"Frechet distance after {quickest:.0f} s"] = middle(known, "{:.2f}")
        by_seed = [figures_of(row) for row in rows]
        cells[-1] |= figure_cells(by_seed[0])
        if len(rows) > 1:  # what seeds change stands in place of the error of one measurement
            for figures in zip(*by_seed, strict=True):
                cells[-1][figures[0].title] = middle([figure.value for figure in figures], "{:.4g}")
    facts = conditions(figure for several in found.values() for _, row in several for figure in figures_of(row))
    if any("seeds" in cell for cell in cells):
        facts.append("Of several seeds: the median (the least to the most).")
    return "\n".join([*facts, "", markdown_table(cells), ""])


def distance_in_time(log: Sequence[Mapping[str, Any]], seconds: float) -> float | None:
    """Return the distance after so many seconds of training, between two evaluations; None before the first."""
    import numpy as np

    found = [(seconds_of(row), row["eval_frechet_distance"]) for row in log if "eval_frechet_distance" in row]
    if not found or seconds < found[0][0]:
        return None
    return float(np.interp(seconds, *zip(*found, strict=True)))


def figures_of(row: Mapping[str, Any]) -> list[Measured]:
    """Return the figures of a row."""
    return [Measured(**fields) for fields in row["figures"]]


def middle(values: Sequence[float], form: str) -> str:
    """Return the median of values as text, with their range where they differ."""
    texts = [form.format(value) for value in (statistics.median(values), min(values), max(values))]
    if texts[1] == texts[2]:
        return texts[1]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


def draw(found: Settings) -> Iterator[str]:
    """Yield the charts by seconds of training: validation loss and quality on the way, and quality at the end."""
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(found)}
    label = "seconds of training"
    logs = {name: [read_rows(run.files.metrics) for run, _ in several] for name, several in found.items()}
    for key, title in ON_THE_WAY.items():
        lines = [line_by_seconds(name, several, key, colours[name]) for name, several in logs.items()]
        if any(len(line.x) > 1 for line in lines):
            yield line_chart(title, lines, x_label=label, y_label=title.lower(), log=True)
    points = [
        (figure, quality_point(name, [row for _, row in several], figure.name, colours[name]))
        for name, several in found.items()
        for figure in charted(several[0][1])
    ]
    if points:
        title = points[0][0].title
        yield line_chart(title, [line for _, line in points], x_label=label, y_label=title, log=True)


def charted(row: Mapping[str, Any]) -> list[Measured]:
    """Return the figure of a row that the chart of quality shows, if it was measured."""
    figures = {figure.name: figure for figure in figures_of(row)}
    return [figures[name] for name in CHARTED if name in figures][:1]


def quality_point(name: str, rows: Sequence[Mapping[str, Any]], figure_name: str, colour: str) -> Line:
    """Return a point: the median over seeds and half their range, or of one seed the value and its standard error."""
    figures = [figure for row in rows for figure in figures_of(row) if figure.name == figure_name]
    x, y, errors = median_and_errors([(r["seconds"], f.value) for r, f in zip(rows, figures, strict=True)])
    return Line(name, x, y, colour, errors=errors if len(rows) > 1 else [figures[0].standard_error])


def line_by_seconds(name: str, logs: Sequence[Sequence[Mapping[str, Any]]], key: str, colour: str) -> Line:
    """Return a column of the metrics of some runs: the median over them at each step at which all of them have it."""
    rows = [{row["step"]: (seconds_of(row), row[key]) for row in log if key in row} for log in logs]
    steps = sorted(set.intersection(*map(set, rows)))
    points = [median_and_errors([of_run[step] for of_run in rows]) for step in steps]
    x, y, errors = ([value for point in points for value in point[number]] for number in range(3))
    return Line(name, x, y, colour, errors=errors if len(logs) > 1 else ())


def median_and_errors(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float], list[float]]:
    """Return one point (x, y) for several, the medians, and half the range of y."""
    x, y = zip(*points, strict=True)
    return [statistics.median(x)], [statistics.median(y)], [(max(y) - min(y)) / 2]


def draw_samples(runs: dict[str, Path], path: Path) -> None:
    """Write a picture with a row of samples for each run, the same classes and seed in each."""
    import numpy as np

    import dit
    from dit.data.caption import caption
    from dit.data.picture import image_grid

    pictures = [dit.load_pipeline(RunFiles(run).export)(num=NUM_SAMPLES) for run in runs.values()]
    images = np.stack([np.atleast_3d(np.asarray(image)) for row in pictures for image in row])  # (N, H, W, C)
    grid = image_grid(images.transpose(0, 3, 1, 2), columns=NUM_SAMPLES)
    caption(grid, beside=[name.removesuffix("_mnist") for name in runs]).save(path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DitError as error:
        sys.exit(f"compare_recipes: {error}")
