"""The training loss over the steps, as a small picture for cards. Free of torch."""

import json
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 760, 380
LEFT, TOP, RIGHT, BOTTOM = 70, 34, WIDTH - 24, HEIGHT - 48
FONT_SIZE = 14
MAX_TICKS = 10
MAX_POINTS = 500
INK, GRID, TEXT = (30, 90, 160), (225, 225, 225), (60, 60, 60)


def draw_loss_curve(metrics: str | Path, path: str | Path) -> bool:
    """Draw `loss` over `step` of a metrics.jsonl, on logarithmic axes.

    Returns:
        Whether there were at least two points to draw; otherwise nothing is written.
    """
    points = read_points(metrics)
    if len(points) < 2:
        return False
    steps, losses = zip(*points, strict=True)
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT_SIZE)
    for step in ticks(steps[0], steps[-1]):
        x = _place(step, steps[0], steps[-1], LEFT, RIGHT)
        draw.line((x, TOP, x, BOTTOM), fill=GRID)
        draw.text((x, BOTTOM + 6), f"{step:,.0f}", fill=TEXT, font=font, anchor="ma")
    for loss in ticks(min(losses), max(losses)):
        y = _place(loss, min(losses), max(losses), BOTTOM, TOP)
        draw.line((LEFT, y, RIGHT, y), fill=GRID)
        draw.text((LEFT - 8, y), f"{loss:.4g}", fill=TEXT, font=font, anchor="rm")
    draw.rectangle((LEFT, TOP, RIGHT, BOTTOM), outline=GRID)
    xs = [_place(step, steps[0], steps[-1], LEFT, RIGHT) for step in steps]
    ys = [_place(loss, min(losses), max(losses), BOTTOM, TOP) for loss in losses]
    draw.line(list(zip(xs, ys, strict=True)), fill=INK, width=2)
    draw.text((LEFT, 8), "training loss", fill=TEXT, font=font)
    draw.text((RIGHT, 8), f"last {losses[-1]:.4g}", fill=TEXT, font=font, anchor="ra")
    draw.text(((LEFT + RIGHT) / 2, HEIGHT - 22), "step", fill=TEXT, font=font, anchor="ma")
    image.save(path)
    return True


def read_points(metrics: str | Path) -> list[tuple[int, float]]:
    """Return (step, loss) of the rows that have both, positive and finite, thinned to at most 500."""
    points = []
    for line in Path(metrics).read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            step, loss = row["step"], row["loss"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(step, int) and step > 0 and isinstance(loss, (int, float)) and 0 < loss < math.inf:
            points.append((step, float(loss)))
    stride = len(points) // MAX_POINTS + 1
    return points[-1::-stride][::-1]  # the last one is always among them


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two positive ones, for a logarithmic axis: at most ten."""
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1,)):
        decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        found = [value for power in decades for digit in digits if low <= (value := digit * 10.0**power) <= high]
        if len(found) <= MAX_TICKS:
            return found
    return found[:: -(-len(found) // MAX_TICKS)]


def _place(value: float, low: float, high: float, start: float, end: float) -> float:
    """Return where a value is on a logarithmic axis."""
    span = math.log(high / low) or 1.0
    return start + math.log(value / low) / span * (end - start)
