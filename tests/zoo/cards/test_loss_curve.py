"""The loss curve of the cards."""

import json

import pytest
from PIL import Image

from dit.zoo.cards.loss_curve import MAX_POINTS, MAX_TICKS, draw_loss_curve, read_points, ticks


def metrics(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_points_are_the_rows_with_a_step_and_a_finite_loss(tmp_path):
    rows = [{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": float("nan")}, {"step": 0, "loss": 1.0}, []]
    path = metrics(tmp_path / "m.jsonl", [*rows, {"step": 4, "loss": 1.0}])
    path.write_text(path.read_text() + '{"step": 5, "lo')  # cut off by a kill
    assert read_points(path) == [(1, 2.0), (4, 1.0)]


def test_long_runs_are_thinned_and_keep_their_end(tmp_path):
    points = read_points(metrics(tmp_path / "m.jsonl", [{"step": i, "loss": 1.0} for i in range(1, 3 * MAX_POINTS)]))
    assert len(points) <= MAX_POINTS
    assert points[-1][0] == 3 * MAX_POINTS - 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(50, 1800, [50, 100, 200, 500, 1000]), (0.62, 1.8, [0.7, 0.8, 0.9, 1, 1.5]), (3, 3, [3])],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_there_are_few_ticks_however_long_the_axis():
    assert 2 <= len(ticks(1e-12, 1e12)) <= MAX_TICKS


def test_one_point_is_no_curve(tmp_path):
    assert not draw_loss_curve(metrics(tmp_path / "m.jsonl", [{"step": 1, "loss": 2.0}]), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_the_curve_falls_from_the_upper_left_to_the_lower_right(tmp_path):
    path = metrics(tmp_path / "m.jsonl", [{"step": 10**i, "loss": 10.0**-i} for i in range(4)])
    assert draw_loss_curve(path, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        ink = [(x, y) for x in range(picture.width) for y in range(picture.height)
               if picture.getpixel((x, y)) == (30, 90, 160)]  # fmt: skip
    by_column = dict(sorted(ink))
    heights = list(by_column.values())
    assert heights == sorted(heights)
    assert heights[-1] - heights[0] > 250
