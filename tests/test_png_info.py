"""Texts in PNG files."""

import io

from PIL import Image

import dit
from dit.png_info import png_file, png_texts


def test_texts_come_back_and_pixels_stay():
    picture = Image.new("L", (3, 2), 7)
    file = png_file(picture, Command="dit sample x", Settings='{"classes": ["naïve", "日本"]}')
    texts = {"Software": f"dit-zoo {dit.__version__}", "Command": "dit sample x"}
    assert png_texts(file) == texts | {"Settings": '{"classes": ["naïve", "日本"]}'}
    assert Image.open(io.BytesIO(file)).tobytes() == picture.tobytes()
    assert file == png_file(picture.copy(), Command="dit sample x", Settings='{"classes": ["naïve", "日本"]}')


def test_a_file_of_another_kind_has_none():
    buffer = io.BytesIO()
    Image.new("L", (3, 2)).save(buffer, format="JPEG")
    assert png_texts(buffer.getvalue()) == {}
