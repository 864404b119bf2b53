"""Train recipes one after the other on this machine and put what came of them into one table and one picture.

    python tools/compare_recipes.py [RECIPE ...] --output DIR [--section.field VALUE ...]

Without names: every shipped recipe of the digits. DIR/RECIPE is a run's folder: a finished run is not trained again, an
interrupted one goes on. DIR/table.md and table.json grow run by run; DIR/samples.png has a row of samples for each.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dit.errors import DitError
from dit.figures import Measured, conditions, figure_cells, read_figures
from dit.files import read_json, write_json, write_text
from dit.markdown import markdown_table
from dit.models.counts import count
from dit.models.families import arguments_of
from dit.recipes import list_recipes
from dit.run_files import RunFiles, read_rows

BASELINE = "dit_ti_2_mnist"
PREEMPTED = 75
NUM_SAMPLES = 20  # in a row of the picture, the classes in turn
COLUMNS = {
    "recipe": ("recipe", "{}"),
    "parameters": ("parameters", "{:,}"),
    "steps": ("steps", "{:,}"),
    "seconds": ("seconds of training", "{:.0f}"),
    "ratio": ("times the first", "{:.2f}"),
    "validation_loss": ("validation loss", "{:.3f}"),
}
"""Key of a row -> heading and format; a loss is in the terms of its process. Figures of the samples follow."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train and evaluate what is not there yet; return 0, or the exit code of the last command that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    options, overrides = parser.parse_known_args(argv)
    chosen = options.recipes or [name for name in list_recipes() if name.endswith("_mnist")]
    recipes = {Path(recipe).stem: recipe for recipe in chosen}
    names = sorted(recipes, key=lambda name: name != BASELINE)  # it comes first, the others as they were given
    rows, code = [], 0
    for number, name in enumerate(names, start=1):
        print(f"[{number}/{len(names)}] {name}", flush=True)
        run = RunFiles(options.output / name)
        if not (run.export / "eval.json").is_file() and (failed := train(recipes[name], run.path, overrides)):
            code = failed
            if failed == PREEMPTED:
                break
            continue
        rows.append(read_row(name, run))
        table = with_ratios(rows)
        write_json(options.output / "table.json", table)
        write_text(options.output / "table.md", markdown(table))
    if rows:
        print(markdown(with_ratios(rows)))
        draw_samples({row["recipe"]: options.output / row["recipe"] for row in rows}, options.output / "samples.png")
    return code


def train(recipe: str, folder: Path, overrides: Sequence[str]) -> int:
    """Run `dit train`, which evaluates too, in a process of its own; return its exit code."""
    command = [sys.executable, "-m", "dit", "train", recipe, "--output", str(folder), "--resume", *overrides]
    return subprocess.run(command, check=False).returncode


def read_row(name: str, run: RunFiles) -> dict[str, Any]:
    """Return what the files of a finished run say."""
    model = read_json(run.export / "config.json")["model"]
    status, figures = read_json(run.status), read_figures(run.export)
    losses = [row["val_loss"] for row in read_rows(run.metrics) if "val_loss" in row]
    return {
        "recipe": name,
        "parameters": count(model["name"], arguments_of(model["name"], **model["arguments"])).parameters,
        "steps": status["step"],
        "seconds": status["seconds"]["train"] + status["seconds"].get("data", 0.0),
        "validation_loss": losses[-1] if losses else None,
        "figures": [vars(figure) for figure in (figures.measured if figures else [])],
    }


def with_ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with the ratio of their seconds of training to those of the first."""
    return [row | {"ratio": row["seconds"] / rows[0]["seconds"]} for row in rows]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table, below a line that says what all its figures have in common."""
    cells = []
    for row in rows:
        known = {key: row[key] for key in COLUMNS if row[key] is not None}
        figures = [Measured(**fields) for fields in row["figures"]]
        cells.append({COLUMNS[key][0]: COLUMNS[key][1].format(value) for key, value in known.items()})
        cells[-1] |= figure_cells(figures)
    lines = conditions(Measured(**fields) for row in rows for fields in row["figures"])
    return "\n".join([*lines, "", markdown_table(cells), ""])


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
