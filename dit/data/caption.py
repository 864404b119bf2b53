"""Words around a picture of tiles: what its columns and its rows are."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

FONT_SIZE = 13  # pixels
MARGIN = 5
WIDEST = 140  # pixels of a word at the left
PAPER, INK = "white", "black"


def caption(picture: Image.Image, *, above: Sequence[str] = (), beside: Sequence[str] = ()) -> Image.Image:
    """Write a word over the middle of each column and one to the left of each row; the tiles stay as they are.

    Args:
        picture: columns of equal width, rows of equal height.
        above: a word per column, cut to the column's width; none: no line above.
        beside: a word per row, cut to `WIDEST`; none: no margin at the left.

    Returns:
        A picture of the same mode, larger by a line and by the widest word.
    """
    font = ImageFont.load_default(FONT_SIZE)
    beside = [_cut(word, WIDEST, font) for word in beside]
    left = round(max(map(font.getlength, beside))) + 2 * MARGIN if beside else 0
    top = FONT_SIZE + 2 * MARGIN if above else 0
    page = Image.new(picture.mode, (left + picture.width, top + picture.height), PAPER)
    page.paste(picture, (left, top))
    draw = ImageDraw.Draw(page)
    for place, word in enumerate(above):
        width = picture.width / len(above)
        draw.text(
            (left + (place + 0.5) * width, top / 2), _cut(word, width - 2, font), fill=INK, font=font, anchor="mm"
        )
    for place, word in enumerate(beside):
        middle = top + (place + 0.5) * picture.height / len(beside)
        draw.text((left - MARGIN, middle), word, fill=INK, font=font, anchor="rm")
    return page


def below(top: Image.Image, bottom: Image.Image, *, gap: int = 8) -> Image.Image:
    """Put one picture below another of the same mode, flush right, for their margins at the left may differ."""
    width = max(top.width, bottom.width)
    page = Image.new(top.mode, (width, top.height + gap + bottom.height), PAPER)
    page.paste(top, (width - top.width, 0))
    page.paste(bottom, (width - bottom.width, top.height + gap))
    return page


def _cut(word: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(word) <= width:
        return word
    kept = word
    while kept and font.getlength(kept + "...") > width:
        kept = kept[:-1]
    return kept + "..." if kept else ""
