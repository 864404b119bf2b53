"""What the page shows of a job and of its pictures."""

import pytest

from dit.demo import html
from dit.demo.jobs import Job
from dit.demo.make import Made, Tile


def words_of(job, num_before=0):
    page = html.progress(job, num_before)
    return page.partition("<span>")[2].partition("</span>")[0]


def test_words_of_progress():
    job = Job("a", lambda _: None)
    assert words_of(job) == "Starting ..."
    assert words_of(job, 1) == "Waiting: 1 job is before this one."
    assert words_of(job, 2) == "Waiting: 2 jobs are before this one."
    job.say("Loading <x>")
    assert words_of(job) == "Loading &lt;x&gt; ..."
    job.say("Sampling", total=4)
    assert words_of(job) == "Step 0 of 4"
    job.step()
    assert words_of(job) == "Step 1 of 4"
    job.step(([Tile("data:image/png;base64,AA", "")], 1))
    assert words_of(job).startswith("Step 2 of 4, 0:00 left")
    page = html.progress(job, 0)
    assert "width: 50.0%" in page
    assert '<img src="data:image/png;base64,AA" alt="preview">' in page


def test_texts_are_escaped():
    evil = "<script>alert('x')</script>"
    tile = Tile("/pictures/a.png", evil, f'"{evil}.png')
    made = Made((tile, tile), tile, 2, f"dit sample '{evil}' --seed 1", (evil, evil), 1.0)
    for page in (html.made(made), html.message(evil), html.note(evil), html.welcome(evil)):
        assert "<script>" not in page
        assert '""' not in page


def test_a_command_breaks_between_its_options():
    tile = Tile("/pictures/a.png", "inversion", "a.png")
    page = html.made(Made((tile,), tile, 1, "dit sample x --classes 1,2 --num 3", ("how",), 1.0))
    assert "<code><span>dit sample x</span> <span>--classes 1,2</span> <span>--num 3</span></code>" in page
    assert "Download this picture" in page


@pytest.mark.parametrize(
    ("num", "columns", "expected"),
    [(1, 1, 3), (4, 4, 4), (10, 10, 5), (10, 4, 4), (6, 2, 3), (30, 10, 8), (32, 6, 6), (80, 8, 8)],
)
def test_images_in_a_row(num, columns, expected):
    assert html._across(num, columns) == expected
