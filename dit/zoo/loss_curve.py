"""The training loss over the steps, as a small picture for cards. Free of torch."""

import json
import math
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 640, 320, 48
MAX_POINTS = 500
INK, GRID = (30, 90, 160), (225, 225, 225)


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
    draw = ImageDraw.Draw(image)
    xs = _scaled([math.log10(step) for step in steps], MARGIN, WIDTH - MARGIN)
    ys = _scaled([-math.log10(loss) for loss in losses], MARGIN // 2, HEIGHT - MARGIN)
    draw.rectangle((MARGIN, MARGIN // 2, WIDTH - MARGIN, HEIGHT - MARGIN), outline=GRID)
    draw.line(list(zip(xs, ys, strict=True)), fill=INK, width=2)
    draw.text((MARGIN, HEIGHT - MARGIN + 8), f"step {steps[0]:,}", fill="black")
    draw.text((WIDTH - MARGIN, HEIGHT - MARGIN + 8), f"step {steps[-1]:,}", fill="black", anchor="ra")
    draw.text((MARGIN + 4, MARGIN // 2 - 14), f"loss, largest {max(losses):.4g}", fill="black")
    draw.text((WIDTH - MARGIN, MARGIN // 2 - 14), f"smallest {min(losses):.4g}", fill="black", anchor="ra")
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


def _scaled(values: list[float], low: float, high: float) -> list[float]:
    smallest, largest = min(values), max(values)
    span = largest - smallest or 1.0
    return [low + (value - smallest) / span * (high - low) for value in values]
