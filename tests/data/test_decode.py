import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from dit.data.decode import crop, decode_image
from dit.errors import DitError
from tests.data.pictures import encoded, noise

HAS_END_MARK = ("PNG", "GIF", "TGA")  # its loss changes no pixel


def decode(data: bytes, size: int = 8, channels: int = 3, max_pixels: int = 10**6) -> np.ndarray:
    return decode_image(data, size=size, channels=channels, max_pixels=max_pixels, name="folder/x.jpg")


def solid(mode: str, color) -> Image.Image:
    return Image.new(mode, (16, 12), color)


def assert_color(pixels: np.ndarray, color, tolerance: int = 0):
    assert pixels.shape == (8, 8, len(color))
    assert np.abs(pixels.astype(int) - np.array(color)).max() <= tolerance


def test_crop_averages_exact_halvings():
    """A half is the mean of 2x2 pixels; an image of 4x4 blocks comes back as the blocks, no filter looks beyond."""
    blocks = np.asarray(noise(8, 24))
    image = Image.fromarray(blocks.repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(np.asarray(crop(image, 8)), blocks[:, 8:16])
    pixels = np.asarray(noise(32, 32)).astype(float)
    means = pixels.reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(crop(noise(32, 32), 16)) - means).max() <= 1  # PIL rounds twice


@pytest.mark.parametrize("is_wide", [True, False])
def test_a_square_is_cut_out_at_its_place(is_wide):
    """Of 8 x 24 pixels there are 17 squares of 8 x 8, each the width of 1/17 in places."""
    blocks = np.asarray(noise(8, 24))
    blocks = blocks if is_wide else blocks.swapaxes(0, 1)
    image = Image.fromarray(blocks.repeat(4, 0).repeat(4, 1))
    for place, start in ((0.0, 0), (0.5, 8), (3.99 / 17, 3), (4.01 / 17, 4), (np.nextafter(1, 0), 16)):
        part = slice(start, start + 8)
        np.testing.assert_array_equal(np.asarray(crop(image, 8, place)), blocks[:, part] if is_wide else blocks[part])


def test_crop_resizes_like_an_antialiased_bicubic_filter():
    """Torch's own implementation of the filter is the oracle; PIL rounds twice, hence the tolerance."""
    image = noise(18, 30)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(pixels, size=(12, 20), mode="bicubic", antialias=True).clamp(0, 255)
    found = torch.from_numpy(np.asarray(crop(image, 12)).copy()).permute(2, 0, 1)[None].float()
    torch.testing.assert_close(found, expected[..., 4:16], atol=1.5, rtol=0)


def test_crop_enlarges_and_leaves_the_right_size_alone():
    assert crop(noise(5, 9), 16).size == (16, 16)
    same = noise(16, 16)
    np.testing.assert_array_equal(np.asarray(crop(same, 16)), np.asarray(same))


@pytest.mark.parametrize(
    ("data", "color"),
    [
        (encoded(solid("L", 77), "PNG"), (77, 77, 77)),
        (encoded(solid("1", 1), "PNG"), (255, 255, 255)),
        (encoded(solid("RGB", (10, 20, 30)), "BMP"), (10, 20, 30)),
        (encoded(solid("RGB", (10, 20, 30)).quantize(4), "GIF"), (10, 20, 30)),
        (encoded(solid("RGBA", (200, 0, 0, 0)), "PNG"), (255, 255, 255)),
        (encoded(solid("RGBA", (200, 0, 0, 255)), "WEBP", lossless=True), (200, 0, 0)),
        (encoded(solid("LA", (0, 51)), "PNG"), (204, 204, 204)),
        (encoded(Image.new("P", (16, 12), 0), "PNG", transparency=0), (255, 255, 255)),
        (encoded(solid("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3)), (255, 255, 255)),
        (encoded(Image.fromarray(np.full((12, 16), 257 * 90, np.uint16)), "PNG"), (90, 90, 90)),
        (encoded(Image.fromarray(np.full((12, 16), 65535, np.uint16)), "TIFF"), (255, 255, 255)),
        (encoded(Image.fromarray(np.full((12, 16), 257 * 7, np.int32)), "TIFF"), (7, 7, 7)),
    ],
)
def test_lossless_modes(data, color):
    assert_color(decode(data), color)
    assert_color(decode(data, channels=1), (Image.new("RGB", (1, 1), color).convert("L").getpixel((0, 0)),))


@pytest.mark.parametrize(
    ("image", "color"),
    [
        (solid("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        (solid("CMYK", (0, 0, 0, 255)), (0, 0, 0)),
        (solid("YCbCr", (255, 128, 128)), (255, 255, 255)),
        (solid("L", 200), (200, 200, 200)),
    ],
)
def test_jpeg_modes(image, color):
    assert_color(decode(encoded(image, "JPEG", quality=95)), color, tolerance=3)


def test_exif_orientation_is_applied():
    """Orientation 6 means that the picture has to be turned clockwise: the left half comes up."""
    image = Image.fromarray(np.repeat([[0] * 8 + [255] * 8], 16, axis=0).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(encoded(image, "PNG", exif=exif), size=16, channels=1)[:, :, 0]
    assert (pixels[:8] == 0).all()
    assert (pixels[8:] == 255).all()


def test_the_first_frame_of_an_animation_is_taken():
    frames = [solid("L", 10), solid("L", 250)]
    assert_color(decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])), (10, 10, 10))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA"])
def test_a_cut_file_is_named_and_never_filled_up(file_format):
    """D1, D2: every proper prefix is refused, or (where only an end mark is lost) decodes to the whole image."""
    data = encoded(noise(20, 20), file_format)
    whole = decode(data)
    assert len(data) > 200
    for length in [0, 1, 3, 10, 50, len(data) // 2, len(data) - 60, len(data) - 1]:
        if length == len(data) - 1 and file_format in HAS_END_MARK:
            np.testing.assert_array_equal(decode(data[:length]), whole)
        else:
            with pytest.raises(DitError, match=r"^folder/x\.jpg: expected [^\n]*$"):
                decode(data[:length])


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that declares a size and holds no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [1001, 12_000, 100_000])
def test_a_bomb_is_refused_before_decoding(side, monkeypatch):
    """D3: decoding would fail anyway, for want of pixels; it must not be tried."""
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    with pytest.raises(DitError, match=re.escape("x.jpg: expected at most 1000000 pixels (data.max_pixels)")):
        decode(png_header(side, side))


def test_the_limit_can_be_raised_above_pillows_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(noise(20, 20), "PNG")).shape == (8, 8, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(DitError, match=r"expected at most 90 pixels \(data\.max_pixels\)"):
        decode(encoded(noise(20, 20), "PNG"), max_pixels=90)


def test_a_thin_image_that_would_explode_when_scaled_is_refused():
    with pytest.raises(DitError, match="shorter side scaled to 512, found 100 x 1"):
        decode(encoded(Image.new("L", (100, 1)), "PNG"), size=512)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"hello, I am a text file", "found another format"),
        (encoded(solid("RGB", (1, 2, 3)), "EPS"), "found another format"),  # its reader would start Ghostscript
        (encoded(Image.fromarray(np.ones((12, 16), np.float32)), "TIFF"), "floating point"),
        (encoded(Image.fromarray(np.full((12, 16), 70_000, np.int32)), "TIFF"), r"70000\.\.70000"),
    ],
)
def test_what_has_no_agreed_pixels_is_refused(data, problem):
    with pytest.raises(DitError, match=problem):
        decode(data)
