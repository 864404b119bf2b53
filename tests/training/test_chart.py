"""Charts: valid SVG, points where they belong, lines that break where there is nothing."""

import re
from xml.etree import ElementTree

import pytest

from dit.training.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, line_chart, tick_texts, ticks


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


def test_a_short_logarithmic_axis_has_ticks_too():
    assert ticks(1.95, 2.35, log=True) == pytest.approx([2.0, 2.1, 2.2, 2.3])
