"""Charts: valid SVG, points where they belong, lines that break where there is nothing."""

import math
import re
from xml.etree import ElementTree

import pytest
from PIL import Image

from dit.charts import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    draw_loss,
    line_chart,
    svg_to_image,
    tick_texts,
    ticks,
)


def parsed(chart):
    return ElementTree.fromstring(chart)


def points(chart):
    """Every line's points, in pixels."""
    paths = [path.get("d") for path in parsed(chart).iter("path") if path.get("fill") == "none"]
    return [[tuple(map(float, pair.split(","))) for pair in re.findall(r"[\d.]+,[\d.]+", path)] for path in paths]


def test_the_ends_of_a_line_are_at_the_ends_of_the_frame():
    (line,) = points(line_chart("loss", [Line("", [0, 50, 100], [1.0, 2.0, 3.0], "red")]))
    assert [x for x, _ in line] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    heights = [y for _, y in line]
    assert heights[1] == pytest.approx((TOP + HEIGHT - BOTTOM) / 2)
    assert heights[0] > heights[1] > heights[2]
    assert min(heights) >= TOP
    assert max(heights) <= HEIGHT - BOTTOM


def test_equal_factors_are_equal_distances_where_logarithmic():
    (line,) = points(line_chart("loss", [Line("", [0, 1, 2], [0.1, 1.0, 10.0], "red")], log=True))
    (_, a), (_, b), (_, c) = line
    assert a - b == pytest.approx(b - c, abs=0.2)


@pytest.mark.parametrize(("log", "low"), [(False, -1.0), (True, 1.0)])
def test_errors_are_bars_as_long_as_they_are(log, low):
    """On a logarithmic axis a bar that would end at or below zero ends at the value."""
    line = Line("", [0, 1, 2], [1.0, None, 8.0], "red", errors=[2.0, 1.0, 4.0])
    root = parsed(line_chart("loss", [line], log=log))
    (path,) = [path.get("d") for path in root.iter("path") if path.get("class") == "error"]
    bars = [tuple(map(float, bar)) for bar in re.findall(r"M([\d.]+),([\d.]+)V([\d.]+)", path)]
    assert [x for x, *_ in bars] == [LEFT, WIDTH - RIGHT]
    heights = [math.log(y) if log else y for y in (low, 3.0, 4.0, 12.0)]
    found = [y for _, *ends in bars for y in ends]
    scale = (found[3] - found[0]) / (heights[3] - heights[0])
    assert found == pytest.approx([found[0] + scale * (y - heights[0]) for y in heights], abs=0.2)
    assert min(found) >= TOP
    assert max(found) <= HEIGHT - BOTTOM


def test_missing_points_break_the_line():
    chart = line_chart("loss", [Line("", [0, 1, 2, 3], [1.0, None, 2.0, float("nan")], "red")])
    (path,) = [path.get("d") for path in parsed(chart).iter("path") if path.get("fill") == "none"]
    assert re.findall("[ML]", path) == ["M", "M"]


def test_nothing_to_draw_is_no_chart():
    assert line_chart("loss", []) == ""
    assert line_chart("loss", [Line("", [1], [None], "red")]) == ""


@pytest.mark.parametrize("log", [False, True])
def test_a_constant_has_a_frame(log):
    assert len(points(line_chart("x", [Line("", [1, 2], [0.5, 0.5], "red")], log=log))) == 1
    assert len(points(line_chart("x", [Line("", [1], [0.5], "red")], log=log))) == 1


def test_names_are_text():
    chart = line_chart("<script>", [Line("a & b", [0, 1], [0, 1], "red")])
    assert "<script>" not in chart
    assert next(text.text for text in parsed(chart).iter("text")) == "<script>"


def test_long_lines_are_thinned():
    (line,) = points(line_chart("x", [Line("", list(range(50_000)), list(range(50_000)), "red")]))
    assert 500 < len(line) <= 1000


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.48, False, [0.2, 0.3, 0.4]),
        (1, 100, True, [1, 2, 5, 10, 20, 50, 100]),
        (1, 1e4, True, [1, 10, 100, 1000, 10000]),
        (0.63, 1.78, True, [0.8, 1.0, 1.2, 1.4, 1.6]),
        (1.95, 2.35, True, [2.0, 2.1, 2.2, 2.3]),
    ],
)
def test_ticks_are_round(low, high, log, expected):
    assert ticks(low, high, log=log) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([2.004, 2.005], ["2.004", "2.005"]),
        ([0, 500, 1000, 12_000], ["0", "500", "1,000", "12,000"]),
        ([1e-5, 2e-5], ["1e-05", "2e-05"]),
        ([0.5, 1, 1.5], ["0.5", "1", "1.5"]),
        ([-20, 0, 20], ["-20", "0", "20"]),
    ],
)
def test_tick_texts_tell_ticks_apart(values, texts):
    assert tick_texts(values) == texts


def test_counts_have_whole_ticks():
    assert ticks(0, 1, whole=True) == [0, 1]
    texts = [text.text for text in parsed(line_chart("n", [Line("", [1, 2], [0, 1], "red")])).iter("text")]
    assert "0.5" not in texts
    texts = [text.text for text in parsed(line_chart("n", [Line("", [1, 2], [0.0, 1.0], "red")])).iter("text")]
    assert "0.2" in texts


def boxes(chart):
    """Where the upright texts of a chart are, at most: left, right, top, bottom and the text."""
    found = []
    for text in parsed(chart).iter("text"):
        if text.get("transform"):
            continue
        size, weight = (13, 7.4) if text.get("class") == "title" else (11, 6.4)
        width, x = weight * len(text.text), float(text.get("x"))
        left = x - {"middle": width / 2, "end": width}.get(text.get("text-anchor"), 0.0)
        bottom = float(text.get("y")) + float(text.get("dy", 0))
        found.append((left, left + width, bottom - 0.8 * size, bottom, text.text))
    return found


def assert_no_overlap(chart):
    _, _, width, height = map(float, parsed(chart).get("viewBox").split())
    found = boxes(chart)
    legend = [float(text.get("y")) for text in parsed(chart).iter("text") if text.get("class") == "name"]
    assert min(y for line in points(chart) for _, y in line) > max(legend, default=0)
    for k, (left, right, top, bottom, text) in enumerate(found):
        assert left >= 0, text
        assert right <= width, text
        assert bottom <= height, text
        for other in found[:k]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top, (text, other[4])


def test_key_shows_the_colours_of_a_scale_in_order():
    lines = [Line("", [0, 9], [1.0 + k, 2.0 + k], f"hsl({k} 75% 52%)") for k in range(5)]
    chart = line_chart("loss", lines, key=("t = 0", "t = 1"))
    strip = list(parsed(chart).iter("rect"))
    assert [patch.get("fill") for patch in strip] == [line.colour for line in lines]
    assert float(strip[0].get("x")) < float(strip[-1].get("x"))
    names = [text for text in parsed(chart).iter("text") if text.get("class") == "name"]
    assert [text.text for text in names] == ["t = 0", "t = 1"]
    assert_no_overlap(chart)


def test_a_range_widens_the_axis():
    (line,) = points(line_chart("loss", [Line("", [50, 100], [1.0, 2.0], "red")], x_range=(0, 0)))
    assert [x for x, _ in line] == [(LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]


def is_near(pixel, colour):
    """Whether a pixel has a colour but for the smoothing of a line's edges."""
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 50


def test_the_picture_has_the_lines_and_texts_of_the_svg():
    x, y = [0, 50, 100], [1.0, 3.0, 2.0]
    chart = line_chart(
        "loss", [Line("one", x, y, "#ff0000"), Line("", x, y[::-1], "#0000ff")], y_label="loss per image"
    )
    picture = svg_to_image(chart)
    assert picture.size == (2 * WIDTH, 2 * HEIGHT)
    for line, colour in zip(points(chart), ((255, 0, 0), (0, 0, 255)), strict=True):
        for left, right in ((line[0], line[1]), (line[1], line[2])):
            at = (round(1.4 * left[0] + 0.6 * right[0]), round(1.4 * left[1] + 0.6 * right[1]))  # not where they cross
            assert is_near(picture.getpixel(at), colour)
    for left, right, top, bottom, text in boxes(chart):
        box = picture.crop([round(2 * edge) for edge in (left, top, right, bottom)])
        assert box.convert("L").getextrema()[0] < 200, text
    assert picture.crop((0, 100, 60, 500)).convert("L").getextrema()[0] < 200  # the label along the axis


def test_the_loss_falls_from_the_upper_left_to_the_lower_right(tmp_path):
    rows = [{"step": 10 * k, "loss": 10.0**-k} for k in range(5)]
    rows += [{"step": 45, "loss": float("nan")}, {"step": 46}, {"step": 50, "loss": 1e-5, "val_loss": 1.0}]
    assert draw_loss(rows, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        colour = tuple(bytes.fromhex(COLOURS[0][1:]))
        below_legend = range(2 * TOP, picture.height)
        ink = {x: y for x in range(picture.width) for y in below_legend if is_near(picture.getpixel((x, y)), colour)}
    heights = [ink[x] for x in sorted(ink)][::40]  # points have dots, which are higher than the line
    assert heights == sorted(heights)
    assert heights[-1] - heights[0] > 350


def test_one_point_is_no_curve(tmp_path):
    assert not draw_loss([{"step": 1, "loss": 2.0}, {"step": 2, "val_loss": 2.0}], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
