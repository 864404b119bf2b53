"""The picture of samples that the classifier did not take for what was asked."""

from pathlib import Path

import torch
from PIL import Image

from dit.data.caption import caption
from dit.data.picture import image_grid
from dit.evaluation.drawn import Drawn
from dit.evaluation.failures import MAX_SHOWN, Failures


class Grey:
    """Draws images whose grey is their class."""

    num_calls = 0

    def __call__(self, labels, positions):
        return labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def collect(failures, labels, is_right):
    drawn = Drawn(torch.tensor(labels), (8, 8), Grey(), {}, 4, Path("nowhere"))
    failures.collect(drawn, None if is_right is None else torch.tensor(is_right))


NAMES = [f"the {i}" for i in range(10)]


def test_failures_are_shown_sorted_under_what_was_asked(tmp_path):
    failures = Failures(NAMES)
    collect(failures, [7, 3, 5], [False, True, False])
    collect(failures, [1, 9], [False, False])
    failures.save(tmp_path / "x.png")
    tiles = torch.tensor([1, 5, 7, 9], dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    expected = caption(image_grid(tiles, columns=16), above=["the 1", "the 5", "the 7", "the 9"])
    with Image.open(tmp_path / "x.png") as found:
        assert found.tobytes() == expected.tobytes()


def test_rows_are_as_high_as_each_other_and_begin_at_the_left(tmp_path):
    failures = Failures(NAMES)
    collect(failures, [2] * 18, [False] * 18)
    failures.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as found:
        half = found.height // 2
        second, first = (found.crop((0, end - 64, 130, end)) for end in (found.height, half))
        assert second.tobytes() == first.tobytes()
        assert found.crop((130, half, found.width, found.height)).getextrema() == (255, 255)


def test_there_are_no_more_than_fit():
    failures = Failures(NAMES)
    collect(failures, [1] * 120, [False] * 120)
    assert len(failures.images) == MAX_SHOWN


def test_without_failures_or_a_verdict_an_older_picture_goes(tmp_path):
    (tmp_path / "x.png").write_bytes(b"old")
    failures = Failures(NAMES)
    collect(failures, [1, 2], [True, True])
    collect(failures, [1, 2], None)
    failures.save(tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
