"""Line charts: as SVG text, for pages that must stand alone, and as PNG, for cards. Free of torch.

A chart is a title, a frame with round ticks, and lines; a point that is None breaks its line.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 74, 26, 46, 40
LEGEND_LINE = 15
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
MAX_MARKED = 12
"""A line with at most so many points shows them as dots."""
MAX_POINTS = 1000
"""A line with more points is thinned out: no screen shows more."""


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    """What the legend calls it; empty: not in the legend."""
    x: Sequence[float]
    """(N,) positions."""
    y: Sequence[float | None]
    """(N,) values; None where there is none."""
    colour: str
    """As in CSS."""
    dashed: bool = False
    """Whether it is drawn with dashes."""
    errors: Sequence[float | None] = ()
    """(N,) standard errors of the values, drawn as bars up and down; empty: none are drawn."""


@dataclass(frozen=True)
class _Axis:
    """A linear or logarithmic map from values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    whole: bool

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str = "step",
    y_label: str = "",
    x_range: tuple[float, float] | None = None,
    log: bool = False,
    key: tuple[str, str] | None = None,
) -> str:
    """Return a chart as an SVG element.

    Args:
        title: what stands above it.
        lines: what is drawn, the first at the bottom.
        x_label: what the horizontal axis counts, with its unit.
        y_label: what the vertical axis shows, with its unit.
        x_range: what the horizontal axis shows at least; None: what the lines need.
        log: whether the vertical axis is logarithmic; values that are not positive are left out then.
        key: what the first and the last colour mean, where the lines are steps of a scale that need no names.
    """
    lines = [_drawn(line, log) for line in lines]
    xs = [x for line in lines for x, y in zip(line.x, line.y, strict=True) if y is not None]
    ys = [y for line in lines for y in line.y if y is not None]
    if not ys:
        return ""
    ends = [end for line in lines for bar in _bars(line, log) for end in bar[1:]]
    legend, num_rows = _key(lines, *key) if key else _legend(lines)
    height = HEIGHT + LEGEND_LINE * (num_rows - 1)
    x_axis = _axis([*xs, *(x_range or ())], LEFT, WIDTH - RIGHT, log=False)
    y_axis = _axis([*ys, *ends], height - BOTTOM, height - HEIGHT + TOP, log=log, margin=0.05)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    parts += [f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>', *_grid(x_axis, y_axis)]
    parts += _labels(x_label, y_label + " (logarithmic)" * (log and bool(y_label)), y_axis)
    parts += [_path(line, x_axis, y_axis) + _error_bars(line, x_axis, y_axis) for line in lines]
    return "\n".join([*parts, *legend, "</svg>"])


def draw_loss(rows: Sequence[Mapping[str, Any]], path: str | Path) -> bool:
    """Draw the training and the validation loss of rows of metrics as PNG.

    Returns:
        Whether there were at least two training losses to draw; otherwise nothing is written.
    """
    lines = []
    for name, key, colour in (("training", "loss", COLOURS[0]), ("validation", "val_loss", COLOURS[1])):
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None and 0 < row[key] < math.inf]
        lines.append(Line(name, [step for step, _ in points], [loss for _, loss in points], colour))
    if len(lines[0].x) < 2:
        return False
    lines = [line for line in lines if line.x]
    svg_to_image(line_chart("Loss", lines, y_label="loss per image", x_range=(0, 0), log=True)).save(path)
    return True


def svg_to_image(chart: str) -> "Image.Image":
    """Return a chart of `line_chart` as a picture on white, two pixels for each of its units; without dashes."""
    from PIL import Image, ImageDraw, ImageFont

    scale, smooth = 2, 2  # drawn larger and made smaller, for smooth edges
    size = scale * smooth
    root = ElementTree.fromstring(chart)
    width, height = (round(float(length)) for length in root.attrib["viewBox"].split()[2:])
    image = Image.new("RGB", (width * size, height * size), "white")
    draw = ImageDraw.Draw(image)
    for element in root:
        # In order of drawing; what a page's style sheet says of a class is said here.
        kind, given = element.get("class", ""), element.attrib
        colour = given.get("stroke") or {"grid": "#e5e7eb", "title": "#1f2937"}.get(kind, "#6b7280")
        number = {key: float(value) * size for key, value in given.items() if re.fullmatch(r"-?[\d.]+", value)}
        stroke = round(float(given.get("stroke-width", 1)) * size)
        if element.tag == "line":
            draw.line((number["x1"], number["y1"], number["x2"], number["y2"]), colour, stroke)
        elif element.tag == "path":
            for points in _polylines(given["d"]):
                draw.line([(x * size, y * size) for x, y in points], colour, stroke, joint="curve")
        elif element.tag == "circle":
            draw.circle((number["cx"], number["cy"]), number["r"], given["fill"])
        elif element.tag == "text":
            font = ImageFont.load_default((13 if kind == "title" else 11) * size)
            if turned := re.fullmatch(r"translate\((\S+) (\S+)\) rotate\(-90\)", given.get("transform", "")):
                text = Image.new("L", (height * size, 20 * size))
                ImageDraw.Draw(text).text((height * size / 2, 14 * size), element.text or "", 255, font, "ms")
                x, y = (float(place) * size for place in turned.groups())
                image.paste(colour, (round(x - 14 * size), round(y - height * size / 2)), text.rotate(90, expand=True))
            else:
                anchor = {"middle": "ms", "end": "rs"}.get(given.get("text-anchor", ""), "ls")
                place = (number["x"], number["y"] + number.get("dy", 0.0))
                draw.text(place, element.text or "", colour, font, anchor)
    return image.resize((width * scale, height * scale), Image.Resampling.LANCZOS)


def save_charts(charts: Sequence[str], path: str | Path) -> None:
    """Write charts of `line_chart` below each other as one picture."""
    from PIL import Image

    pictures = [svg_to_image(chart) for chart in charts]
    whole = Image.new("RGB", (pictures[0].width, sum(picture.height for picture in pictures)), "white")
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    whole.save(path)


def _polylines(commands: str) -> list[list[tuple[float, float]]]:
    """Return the points of a path of the commands M, L, V and H: one list for each time the pen is set down."""
    lines: list[list[tuple[float, float]]] = []
    for command, numbers in re.findall(r"([MLVH])([\d.,]+)", commands):
        values = [float(number) for number in numbers.split(",")]
        if command == "M":
            lines.append([])
        x, y = lines[-1][-1] if lines[-1] else (0.0, 0.0)
        lines[-1].append({"V": (x, values[0]), "H": (values[0], y)}.get(command) or (values[0], values[1]))
    return lines


def _drawn(line: Line, log: bool) -> Line:
    """Return a line without what can't be drawn, and without points that no screen shows."""
    kept = [y if y is not None and math.isfinite(y) and (y > 0 or not log) else None for y in line.y]
    stride = -(-len(line.x) // MAX_POINTS) or 1
    return replace(line, x=line.x[::stride], y=kept[::stride], errors=line.errors[::stride])


def _bars(line: Line, log: bool) -> list[tuple[float, float, float]]:
    """Return place, lower and upper end of each error bar; what a logarithmic axis can't show ends at the value."""
    if not line.errors:
        return []
    points = zip(line.x, line.y, line.errors, strict=True)
    known = [(x, y, error) for x, y, error in points if y is not None and error is not None]
    return [(x, y if log and error >= y else y - error, y + error) for x, y, error in known]


def _axis(values: Sequence[float], start: float, end: float, *, log: bool, margin: float = 0.0) -> _Axis:
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 0.5 * abs(low), high + 0.5 * (abs(high) or 2))
    elif log:
        factor = (high / low) ** margin
        low, high = low / factor, high * factor
    else:
        low, high = low - margin * (high - low), high + margin * (high - low)
    return _Axis(low, high, start, end, log, all(isinstance(value, int) for value in values))


def ticks(low: float, high: float, *, log: bool = False, whole: bool = False) -> list[float]:
    """Return round numbers between two others: multiples of 1, 2 or 5 times a power of ten.

    On a logarithmic axis that spans enough, 1, 2 and 5 times each power instead, or the powers alone. Where the axis
    counts something (`whole`), only whole numbers.
    """
    if log and high / low > 6:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        digits = (1, 2, 5) if high / low < 300 else (1,)
        return [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
    raw = (high - low) / (10 if log and high / low > 2 else 6)
    power = 10.0 ** math.floor(math.log10(raw))
    stride = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= raw)
    stride = max(stride, 1.0) if whole else stride
    return [stride * k for k in range(math.ceil(low / stride), math.floor(high / stride) + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """Return the shortest texts that tell neighbouring ticks apart."""
    for digits in range(1, 12):
        texts = [f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}" for value in values]
        if all(math.isclose(float(t.replace(",", "")), v, rel_tol=1e-6) for t, v in zip(texts, values, strict=True)):
            break
    return [f"{value:,.0f}" if 1000 <= abs(value) < 10**12 else text for text, value in zip(texts, values, strict=True)]


def _grid(x_axis: _Axis, y_axis: _Axis) -> list[str]:
    parts, bottom = [], y_axis.start
    values = ticks(y_axis.low, y_axis.high, log=y_axis.log, whole=y_axis.whole)
    for value, text in zip(values, tick_texts(values), strict=True):
        y = f"{y_axis(value):.1f}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{text}</text>')
    values = ticks(x_axis.low, x_axis.high, whole=x_axis.whole)
    for value, text in zip(values, tick_texts(values), strict=True):
        x = f"{x_axis(value):.1f}"
        parts.append(f'<line y1="{bottom}" y2="{bottom + 4}" x1="{x}" x2="{x}" class="axis"/>')
        parts.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{text}</text>')
    parts.append(f'<path d="M{LEFT},{y_axis.end}V{bottom}H{WIDTH - RIGHT}" class="axis"/>')
    return parts


def _labels(x_label: str, y_label: str, y_axis: _Axis) -> list[str]:
    x, y = (LEFT + WIDTH - RIGHT) / 2, (y_axis.start + y_axis.end) / 2
    return [
        f'<text x="{x}" y="{y_axis.start + 34}" text-anchor="middle" class="label">{escape(x_label)}</text>',
        f'<text transform="translate(14 {y}) rotate(-90)" text-anchor="middle" class="label">{escape(y_label)}</text>',
    ]


def _path(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    commands, markers, pen = [], [], "M"
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            pen = "M"
            continue
        left, top = f"{x_axis(x):.1f}", f"{y_axis(y):.1f}"
        commands.append(f"{pen}{left},{top}")
        markers.append(f'<circle cx="{left}" cy="{top}" r="2.2" fill="{line.colour}"/>')
        pen = "L"
    dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
    dots = "".join(markers) if len(markers) <= MAX_MARKED else ""
    return f'<path d="{"".join(commands)}" fill="none" stroke="{line.colour}" stroke-width="1.6"{dashes}/>{dots}'


def _error_bars(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    bars = _bars(line, y_axis.log)
    d = "".join(f"M{x_axis(x):.1f},{y_axis(low):.1f}V{y_axis(high):.1f}" for x, low, high in bars)
    return f'<path d="{d}" class="error" fill="none" stroke="{line.colour}" stroke-width="1"/>' if d else ""


def _legend(lines: Sequence[Line]) -> tuple[list[str], int]:
    """Return the names of the lines, in as many rows as they need, and the number of rows."""
    parts, x, row = [], float(LEFT), 0
    for line in lines:
        if not line.name:
            continue
        width = 34 + 6.4 * len(line.name)
        if x > LEFT and x + width > WIDTH:
            x, row = float(LEFT), row + 1
        y = 30 + LEGEND_LINE * row
        dashes = ' stroke-dasharray="4 3"' if line.dashed else ""
        ends = f'x1="{x:.1f}" x2="{x + 14:.1f}" y1="{y}" y2="{y}"'
        parts.append(f'<line {ends} stroke="{line.colour}" stroke-width="2"{dashes}/>')
        parts.append(f'<text x="{x + 18:.1f}" y="{y + 4}" class="name">{escape(line.name)}</text>')
        x += width
    return parts, row + 1


def _key(lines: Sequence[Line], first: str, last: str) -> tuple[list[str], int]:
    """Return a strip of the lines' colours between two names, and its one row."""
    x, step = LEFT + 8 + 6.4 * len(first), 120 / len(lines)
    parts = [
        f'<rect x="{x + step * k:.1f}" y="26" width="{step:.1f}" height="8" fill="{line.colour}"/>'
        for k, line in enumerate(lines)
    ]
    parts.append(f'<text x="{LEFT}" y="34" class="name">{escape(first)}</text>')
    return [*parts, f'<text x="{x + 126:.1f}" y="34" class="name">{escape(last)}</text>'], 1
