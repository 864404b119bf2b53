import numpy as np
from PIL import Image

from dit.data.caption import WIDEST, below, caption

TILES = Image.new("L", (120, 60), 128)


def inked(picture):
    """Return (columns, rows) that hold anything but paper and tiles."""
    found = np.asarray(picture) < 128
    return np.flatnonzero(found.any(0)), np.flatnonzero(found.any(1))


def test_words_stand_over_their_column_and_beside_their_row_and_the_tiles_stay():
    picture = caption(TILES, above=["", "two"], beside=["", "", "third"])
    left, top = picture.width - 120, picture.height - 60
    assert (np.asarray(picture)[top:, left:] == 128).all()
    columns, _ = inked(picture.crop((0, 0, picture.width, top)))
    assert left + 60 < columns.min() <= left + 90 <= columns.max() < left + 120
    columns, rows = inked(picture.crop((0, top, left, picture.height)))
    assert columns.max() < left
    assert 40 < rows.min() <= rows.max() < 60


def test_long_words_are_cut():
    picture = caption(TILES, above=["a name much too long for a column"] * 2, beside=["a name " * 20])
    assert picture.width <= 120 + WIDEST + 10
    columns, _ = inked(picture.crop((picture.width - 120, 0, picture.width, picture.height - 60)))
    gaps = columns[:-1][np.diff(columns) > 2]
    assert len(gaps) > 0
    assert not {58, 59, 60, 61} & set(columns.tolist())  # the words of neighbouring columns do not touch


def test_pictures_below_each_other_are_flush_right():
    picture = below(TILES, Image.new("L", (100, 20), 0), gap=3)
    assert picture.size == (120, 83)
    assert (np.asarray(picture)[63:, 20:] == 0).all()
    assert (np.asarray(picture)[63:, :20] == 255).all()
