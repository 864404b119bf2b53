"""How one or several runs went, as one HTML page that stands alone.

What is read of a run: `metrics.jsonl`, the previews that its rows name, and the reports of `dit evaluate`.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any

from dit.charts import COLOURS, Line, line_chart
from dit.errors import ConfigError
from dit.figures import Measured, read_figures
from dit.run_files import METRICS_NAME, RunFiles, read_rows
from dit.training.monitor.summary import summary

MAX_PREVIEWS = 6
REPORTS = "eval*.json"
START = (0, 0)
"""What a horizontal axis of steps begins with."""
MAX_NAME = 24
"""Letters of a run's name that fit into a chart."""
STYLE = """
:root { color-scheme: light dark; --ink: #1f2937; --soft: #6b7280; --paper: #fff; --rule: #e5e7eb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --soft: #9ca3af; --paper: #111827; --rule: #374151; } }
body { font: 14px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
       max-width: 1180px; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--rule); }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: right; }
td:first-child, th:first-child { text-align: left; }
th { color: var(--soft); font-weight: 500; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 1.2rem; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg .title { font-size: 13px; font-weight: 600; fill: var(--ink); }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--soft); fill: none; }
.opening { display: flex; gap: 2rem; justify-content: space-between; font-size: 15px; margin-bottom: 1rem; }
.opening ul { margin: .3rem 0; padding-left: 1.2rem; } .opening figure { max-width: 260px; flex: none; }
.previews { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; max-width: 340px; }
figure img { width: 100%; } figcaption { color: var(--soft); }
"""


@dataclass(frozen=True)
class Run:
    """One run of a report."""

    name: str
    """What it is called on the page."""
    folder: Path
    """Where the pictures are that its rows name."""
    rows: list[dict[str, Any]]
    """Its metrics."""
    colour: str
    """Its colour in charts that several runs share."""


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the metrics of some runs.

    Raises:
        ConfigError: one has no row of metrics.
        DitError: a line of them is damaged.
    """
    runs = []
    for number, folder in enumerate(folders):
        rows = read_rows(folder / METRICS_NAME)
        if not rows:
            raise ConfigError(f"{folder / METRICS_NAME}: expected at least one row of metrics, found none")
        name = folder.name if [f.name for f in folders].count(folder.name) == 1 else str(folder)
        runs.append(Run(name, folder, rows, COLOURS[number % len(COLOURS)]))
    return runs


def report_page(runs: Sequence[Run]) -> str:
    """Return the HTML page of these runs, beside each other where there are several."""
    title = " and ".join(run.name for run in runs)
    parts = [f"<h1>{escape(title)}</h1>", *map(_opening, runs), "<h2>Newest figures</h2>", _summary(runs)]
    parts += ['<h2>Loss</h2><div class="charts">', *_loss_charts(runs), *_charts_of_each(runs)]
    parts += _quality_charts(runs)
    parts += ['</div><h2>Health</h2><div class="charts">', *_health_charts(runs), "</div>"]
    parts += [_figures(runs), *(_previews(run) for run in runs)]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _opening(run: Run) -> str:
    """Return what is to know of a run in a few sentences, beside its newest samples."""
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in summary(run.folder, run.rows))
    newest = [_picture(step, path) for step, path in _drawn(run)[-1:]]
    name = f'<b style="color:{run.colour}">{escape(run.name)}</b>'
    return f'<div class="opening"><div>{name}<ul>{sentences}</ul></div>{"".join(newest)}</div>'


def _summary(runs: Sequence[Run]) -> str:
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "step": lambda row: f"{row['step']:,}",
        "images": lambda row: f"{row['images_seen']:,}",
        "time": lambda row: str(timedelta(seconds=round(sum(row["seconds"].values())))),
        "loss": lambda row: f"{row['loss']:.4f}",
        "validation": lambda row: f"{row['val_loss']:.4f}",
        "Frechet distance": lambda row: f"{row['eval_frechet_distance']:.3f}",
        "images/s": lambda row: f"{row['images_per_second']:.0f}",
        "processes": lambda row: str(row["num_processes"]),
        "precision": lambda row: row["precision"],
        "spikes": lambda row: str(row["spikes"]),
        "waits for data": lambda row: _share_of_time(row, "data"),
        "checkpoints": lambda row: _share_of_time(row, "checkpoint"),
    }
    lines = ["<table><tr><th>run</th>", *(f"<th>{name}</th>" for name in columns), "</tr>"]
    for run in runs:
        newest = {key: value for row in run.rows for key, value in row.items()}
        cells = (f"<td>{escape(_cell(value, newest))}</td>" for value in columns.values())
        lines += [f'<tr><td style="color:{run.colour}">{escape(run.name)}</td>', *cells, "</tr>"]
    return "".join([*lines, "</table>"])


def _share_of_time(row: dict[str, Any], kind: str) -> str:
    return f"{row['seconds'].get(kind, 0) / sum(row['seconds'].values()):.2%} of time"


def _cell(value: Callable[[dict[str, Any]], str], row: dict[str, Any]) -> str:
    try:
        return value(row)
    except KeyError:  # a run without a held-out split has no validation loss
        return "-"


def _series(run: Run, key: str, name: str, *, dashed: bool = False) -> Line:
    rows = [row for row in run.rows if row.get(key) is not None]
    return Line(name, [row["step"] for row in rows], [row[key] for row in rows], run.colour, dashed)


def _label(run: Run, runs: Sequence[Run], title: str = "") -> str:
    """Return a title with the run's name, where there are several runs; names differ at their beginning or end."""
    if len(runs) == 1:
        return title
    name = run.name if len(run.name) <= MAX_NAME else f"{run.name[:8]}\u2026{run.name[9 - MAX_NAME :]}"
    return f"{title}: {name}" if title else name


def _loss_charts(runs: Sequence[Run]) -> list[str]:
    """Return the charts that the runs share."""
    loss = [_series(run, "loss", _label(run, runs)) for run in runs]
    loss += [_series(run, "val_loss", "", dashed=True) for run in runs]
    profiles = [_profile(run, "loss_by_time", _label(run, runs)) for run in runs]
    profiles += [_profile(run, "val_loss_by_time", "", dashed=True) for run in runs]
    title = "Loss over diffusion time, newest row (dashed: validation)"
    return [
        line_chart("Loss (dashed: validation)", loss, y_label="loss per image", x_range=START, log=True),
        line_chart(title, profiles, x_label="diffusion time t", y_label="loss per image", x_range=(0, 1)),
    ]


def _quality_charts(runs: Sequence[Run]) -> list[str]:
    """Return the charts of the evaluations while training, where there were some."""
    charts = []
    titles = {"frechet_distance": "Frechet distance", "accuracy": "Class accuracy", "precision": "Precision"}
    for key, title in ((f"eval_{name}", title) for name, title in (titles | {"recall": "Recall"}).items()):
        evaluated = [run for run in runs if any(key in row for row in run.rows)]
        if lines := [_series(run, key, _label(run, runs)) for run in evaluated]:
            charts.append(line_chart(f"{title} of the average's samples", lines, y_label=title.lower(), x_range=START))
    return charts


def _charts_of_each(runs: Sequence[Run]) -> list[str]:
    """Return the charts that each run has for itself, those of one kind side by side."""
    charts = []
    for run in runs:
        title, key = _label(run, runs, "Loss by diffusion time"), ("t = 0 (data)", "t = 1 (noise)")
        lines = _bucket_lines(run)
        charts.append(line_chart(title, lines, y_label="loss per image", x_range=START, log=True, key=key))
    for run in runs:
        title = _label(run, runs, "Validation loss of each weight average")
        charts.append(line_chart(title, _average_lines(run), y_label="loss per image", x_range=START, log=True))
    for run in runs:
        if lines := _term_lines(run):
            title = _label(run, runs, "Parts of the loss and auxiliary losses, before their weights")
            charts.append(line_chart(title, lines, y_label="loss per image", x_range=START))
    return charts


def _bucket_lines(run: Run) -> list[Line]:
    """Return one line per time bucket, from blue (data) to red (noise)."""
    count = max(len(row["loss_by_time"]) for row in run.rows)
    hues = [220 - 220 * k / max(1, count - 1) for k in range(count)]
    steps = [row["step"] for row in run.rows]
    return [
        Line("", steps, [row["loss_by_time"][k] for row in run.rows], f"hsl({hue:.0f} 75% 52%)")
        for k, hue in enumerate(hues)
    ]


def _term_lines(run: Run) -> list[Line]:
    """Return one line per part of the loss."""
    keys = [key for key in run.rows[-1] if key.startswith("loss_") and key != "loss_by_time"]
    series = (_series(run, key, key.removeprefix("loss_")) for key in keys)
    return [replace(line, colour=COLOURS[k % len(COLOURS)]) for k, line in enumerate(series)]


def _profile(run: Run, key: str, name: str, *, dashed: bool = False) -> Line:
    newest = next((row[key] for row in reversed(run.rows) if key in row), [])
    middles = [(k + 0.5) / len(newest) for k in range(len(newest))]
    return Line(name, middles, newest, run.colour, dashed)


def _average_lines(run: Run) -> list[Line]:
    rows = [row for row in run.rows if "val_loss_of_average" in row]
    names = list(dict.fromkeys(name for row in rows for name in row["val_loss_of_average"]))
    steps = [row["step"] for row in rows]
    lines = [
        Line(name, steps, [row["val_loss_of_average"].get(name) for row in rows], COLOURS[k % len(COLOURS)])
        for k, name in enumerate(names)
    ]
    return [*lines, Line("weights", steps, [row["val_loss"] for row in rows], "#6b7280", dashed=True)] if rows else []


def _health_charts(runs: Sequence[Run]) -> list[str]:
    norms = [_series(run, "grad_norm", _label(run, runs)) for run in runs]
    norms += [_series(run, "grad_norm_max", "", dashed=True) for run in runs]
    title = "Gradient norm (dashed: largest since the row before)"
    charts = [line_chart(title, norms, y_label="norm before clipping", x_range=START, log=True)]
    for key, title, unit in (
        ("images_per_second", "Throughput", "images per second"),
        ("lr", "Learning rate", "learning rate"),
        ("spikes", "Spikes of the loss so far", "number of spikes"),
    ):
        lines = [_series(run, key, _label(run, runs)) for run in runs]
        charts.append(line_chart(title, lines, y_label=unit, x_range=START))
    return charts


def _figures(runs: Sequence[Run]) -> str:
    """Return the table of what was measured of samples: each value with error, floor, number and protocol."""
    found = [(run, figure) for run in runs for path in _reports(run) for figure in _measured(path)]
    if not found:
        return ""
    lines = ["<h2>Quality of samples</h2><table><tr><th>run</th>", *(f"<th>{name}</th>" for name in found[0][1].cells)]
    for run, figure in found:
        cells = (f"<td>{escape(text)}</td>" for text in figure.cells.values())
        lines += [f'</tr><tr><td style="color:{run.colour}">{escape(run.name)}</td>', *cells]
    return "".join([*lines, "</tr></table><p>\u00b1: standard error over samples drawn anew</p>"])


def _reports(run: Run) -> list[Path]:
    """Return the reports that lie in a run's folder and in its export."""
    return [path for place in (RunFiles(run.folder).export, run.folder) for path in sorted(place.glob(REPORTS))]


def _measured(path: Path) -> list[Measured]:
    figures = read_figures(path)
    return figures.measured if figures else []


def _previews(run: Run) -> str:
    found = _drawn(run)
    if not found:
        return ""
    stride = max(1, -(-len(found) // MAX_PREVIEWS))
    shown = found[::-1][::stride][::-1]  # the newest always
    pictures = "".join(_picture(step, path) for step, path in shown)
    return f'<h2>Samples of {escape(run.name)}</h2><div class="previews">{pictures}</div>'


def _drawn(run: Run) -> list[tuple[int, Path]]:
    """Return step and file of the previews that are there."""
    found = [(row["step"], run.folder / row["preview"]) for row in run.rows if "preview" in row]
    return [(step, path) for step, path in found if path.is_file()]


def _picture(step: int, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img alt="samples at step {step}" src="data:image/png;base64,{data}">'
        f"<figcaption>step {step:,}</figcaption></figure>"
    )
