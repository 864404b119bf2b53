"""Measure a model at every combination of some settings: one table, and charts against guidance and network calls.

    python tools/sweep.py SOURCE [SOURCE ...] --vary FIELD=VALUE,VALUE,... [--vary ...] --output DIR [OPTION ...]
    python tools/sweep.py dit_ti_2.mnist --vary sampling.guidance=1,1.5,2 --vary sampling.solver=ddim,heun --output DIR

A FIELD is an option of `dit evaluate`, its values in YAML; what is not this tool's goes to `dit evaluate` as it is, as
--num 500, or --protocol adm --reference FILE. All settings have one seed, and so the same start noise: differences
between them are less noisy than their standard errors say. Several sources, such as the averages that `dit ema` writes,
are one more thing that varies.

DIR/reports holds the report of each setting, and one that is there is not measured again. DIR/table.md, table.json and
sweep.png grow with them.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dit import axes
from dit.charts import COLOURS, Line, line_chart, save_charts
from dit.cli import main as dit
from dit.cli import split_overrides
from dit.errors import ConfigError, DitError
from dit.figures import Figures, Measured, conditions, figure_cells, read_figures
from dit.files import read_json, write_json, write_text
from dit.markdown import markdown_table

CHARTED = ("fid", "frechet_distance", "fd_dinov2")
"""What charts show: the first of these that was measured."""
STEPS = "sampling.steps"


@dataclass(frozen=True)
class Setting:
    """One combination."""

    source: str
    """Model."""
    values: Mapping[str, Any]
    """Option of `dit evaluate` -> value."""
    path: Path
    """Its report."""

    @property
    def options(self) -> list[str]:
        """The values as options."""
        return axes.as_options(self.values)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is not there yet; return 0, or the exit code of the first evaluation that failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--vary", action="append", required=True, metavar="FIELD=VALUE,...")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    given, options = parser.parse_known_intermixed_args(argv)
    settings = list(combinations(given.sources, axes.parse_axes(given.vary), given.output / "reports"))
    check(settings, options)
    claim(given.output, {"sources": given.sources, "options": options})
    for number, setting in enumerate(settings, start=1):
        print(f"[{number}/{len(settings)}] {setting.path.stem}", flush=True)
        if not setting.path.is_file():
            setting.path.parent.mkdir(parents=True, exist_ok=True)
            if code := dit(["evaluate", setting.source, *options, *setting.options, "--out", str(setting.path)]):
                return code
        write(given.output, settings[:number])
    print((given.output / "table.md").read_text(encoding="utf-8"))
    return 0


def combinations(sources: Sequence[str], varied: Mapping[str, list[Any]], folder: Path) -> Iterator[Setting]:
    """Yield every combination, the last axis running fastest."""
    for source, values in itertools.product(sources, axes.combinations(varied)):
        name = axes.as_name([Path(source).name] if len(sources) > 1 else [], values)
        yield Setting(source, values, folder / f"{name}.json")


def check(settings: Sequence[Setting], options: Sequence[str]) -> None:
    """Refuse what a model can't be sampled with before the first is measured.

    Raises:
        ConfigError: naming the option; or two sources have the same name.
    """
    from dit.making import checked_settings, sampling_settings
    from dit.zoo.source import locate

    if len({setting.path for setting in settings}) < len(settings):
        raise ConfigError("SOURCE: expected sources of different names, found two of one name; rename a folder")
    for setting in settings:
        _, overrides = split_overrides([*options, *setting.options])
        of_sampling = {field: value for field, value in overrides.items() if field.startswith("sampling.")}
        checked_settings(locate(setting.source).config.sampling, sampling_settings(of_sampling))


def claim(folder: Path, asked: Mapping[str, Any]) -> None:
    """Note what the reports in a folder have in common.

    Raises:
        ConfigError: there are reports of other sources or options.
    """
    path = folder / "sweep.json"
    if path.is_file() and read_json(path) != asked:
        raise ConfigError(f"--output {folder}: expected no reports of other sources or options, found {path}")
    write_json(path, asked)


def write(folder: Path, settings: Sequence[Setting]) -> None:
    """Write the table and the charts of what has been measured."""
    found = [(setting, figures) for setting in settings if (figures := read_figures(setting.path))]
    write_json(folder / "table.json", [as_row(*pair) for pair in found])
    write_text(folder / "table.md", table(found))
    if charts := list(draw(found)):
        save_charts(charts, folder / "sweep.png")


def as_row(setting: Setting, figures: Figures) -> dict[str, Any]:
    """Return a setting and its figures as plain values."""
    row = {"source": setting.source, **setting.values, "num_calls": figures.network_calls}
    return row | {figure.name: vars(figure) for figure in figures.measured}


def table(found: Sequence[tuple[Setting, Figures]]) -> str:
    """Return the table, below lines that say what its figures have in common."""
    several = len({setting.source for setting, _ in found}) > 1
    rows = []
    for setting, figures in found:
        row = {"source": setting.source} if several else {}
        row |= {field.removeprefix("sampling."): axes.as_text(value) for field, value in setting.values.items()}
        row["network calls"] = "" if figures.network_calls is None else f"{figures.network_calls:g}"
        rows.append(row | figure_cells(figures.measured))
    lines = conditions(figure for _, figures in found for figure in figures.measured)
    return "\n".join([*lines, "", markdown_table(rows), ""])


def draw(found: Sequence[tuple[Setting, Figures]]) -> Iterator[str]:
    """Yield a chart for each number that varies, and one against network calls where the number of steps does."""
    fields = list(found[0][0].values)
    for field in fields:
        if field != STEPS and all(type(setting.values[field]) in (int, float) for setting, _ in found):
            lines = curves([(setting, setting.values[field], figures) for setting, figures in found], field)
            yield from chart(lines, field.removeprefix("sampling."))
    if STEPS in fields:
        lines = curves([(setting, figures.network_calls, figures) for setting, figures in found], STEPS)
        yield from chart(lines, "network calls per image")


def chart(lines: Mapping[str, list[tuple[float, Measured]]], x_label: str) -> Iterator[str]:
    """Yield the chart of some curves, if one of them has two points."""
    if max(map(len, lines.values()), default=0) < 2:
        return
    _, figure = next(iter(lines.values()))[0]
    yield line_chart(
        f"{figure.title} of {figure.num:,} samples, ± standard error",
        [
            Line(
                name,
                [x for x, _ in points],
                [point.value for _, point in points],
                COLOURS[number % len(COLOURS)],
                errors=[point.standard_error for _, point in points],
            )
            for number, (name, points) in enumerate(lines.items())
        ],
        x_label=x_label,
        y_label=figure.title,
        log=True,
    )


def curves(
    found: Sequence[tuple[Setting, float | None, Figures]], field: str
) -> dict[str, list[tuple[float, Measured]]]:
    """Return the points of each curve, whose settings differ in nothing but one field, by a name that tells them."""
    several = len({setting.source for setting, *_ in found}) > 1
    lines: dict[str, list[tuple[float, Measured]]] = {}
    for setting, x, figures in found:
        figure = next((figure for name in CHARTED for figure in figures.measured if figure.name == name), None)
        if x is None or figure is None:
            continue
        parts = [Path(setting.source).name] if several else []
        for name, value in setting.values.items():
            if name != field:
                parts.append(value if isinstance(value, str) else f"{name.rpartition('.')[2]} {axes.as_text(value)}")
        lines.setdefault(", ".join(parts), []).append((x, figure))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in lines.items()}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DitError as error:
        print(f"sweep: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
