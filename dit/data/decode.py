"""From the bytes of an image file to a square array of 8-bit pixels.

- The size that the header declares is checked before anything is decoded; formats whose readers start other programs
  (EPS) are not opened at all.
- The picture is turned as its EXIF orientation says. Of an animation the first frame is taken.
- Every mode becomes grey (1 channel) or RGB (3 channels): palettes are looked up, CMYK and YCbCr converted, 16-bit grey
  divided by 257, and transparency laid on white. Colour profiles are ignored.
- The crop is ADM's: the image is halved by 2x2 averages while its shorter side is at least twice the target, then
  resized bicubically until the shorter side is the target, and the middle, or another place, is cut out.

Source of the crop: Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", 2021, appendix on data.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Lock

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dit.errors import DitError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF")
_EXPECTED_FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, TGA, JPEG 2000 or AVIF"

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".avif"),
)
_LIMIT_LOCK = Lock()


def decode_image(
    data: bytes, *, size: int, channels: int, max_pixels: int, name: str, place: float | None = None
) -> np.ndarray:
    """Decode, convert and crop one image file.

    Args:
        data: the bytes of the file.
        size: side of the square in pixels.
        channels: 1 (grey) or 3 (RGB).
        max_pixels: images that declare more are refused before decoding.
        name: the file or record, for messages.
        place: where along the longer side the square is cut out, in [0, 1); None: in the centre.

    Returns:
        (size, size, channels) uint8.

    Raises:
        DitError: the file is empty, cut short, no image, or too large; the message names it.
    """
    image = _open(data, max_pixels, name)
    if size * size * max(image.size) > max_pixels * min(image.size):
        raise DitError(
            f"{name}: expected at most {max_pixels} pixels (data.max_pixels) with the shorter side scaled to {size}, "
            f"found {image.width} x {image.height}; crop it"
        )
    image = crop(to_mode(image, channels, name=name), size, place)
    return np.asarray(image).reshape(size, size, channels)


def to_mode(image: Image.Image, channels: int, *, name: str) -> Image.Image:
    """Convert an image of any mode to grey ("L", channels 1) or "RGB" (channels 3), transparency on white.

    Raises:
        DitError: the pixels have no agreed range, such as floating point ones.
    """
    target = {1: "L", 3: "RGB"}[channels]
    if image.mode.startswith("I"):
        image = _to_eight_bits(image, name)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == target:
        return image
    if image.mode == "F":
        raise DitError(f"{name}: expected pixels of 8 or 16 bits, found floating point ones; convert the file")
    return image.convert("RGB").convert(target)


def crop(image: Image.Image, size: int, place: float | None = None) -> Image.Image:
    """Scale the shorter side to `size` pixels and cut `size` x `size` out, in the middle or at `place` in [0, 1).

    Returns:
        An image of size x size; an image that has this size comes back unchanged.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = image.width - size, image.height - size  # one of them is 0
    left, top = (int(place * (slack + 1)) if place is not None else slack // 2 for slack in (left, top))
    return image.crop((left, top, left + size, top + size))


def _open(data: bytes, max_pixels: int, name: str) -> Image.Image:
    """Decode an image file, upright."""
    if not data:
        raise DitError(f"{name}: expected an image, found an empty file; restore or remove it")
    try:
        with _limit(max_pixels):
            image = Image.open(BytesIO(data), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise DitError(
                f"{name}: expected at most {max_pixels} pixels (data.max_pixels), "
                f"found {image.width} x {image.height}; it was not decoded"
            )
        return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise DitError(f"{name}: expected an image ({_EXPECTED_FORMATS}), found another format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DitError(f"{name}: expected at most {max_pixels} pixels (data.max_pixels); {error}") from None
    except (DitError, MemoryError):
        raise
    except Exception as error:  # a broken file makes PIL raise OSError, SyntaxError, struct.error, EOFError and more
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DitError(f"{name}: expected a whole image, found a broken one ({problem})") from None


@contextmanager
def _limit(max_pixels: int) -> Iterator[None]:
    """Raise Pillow's own limit, which is one for the whole process, while a header is read."""
    usual = Image.MAX_IMAGE_PIXELS
    if usual is None or max_pixels <= usual:
        yield
        return
    with _LIMIT_LOCK:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Map 0..65535 to 0..255 by division by 257, which takes white to white."""
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise DitError(
            f"{name}: expected grey values in 0..65535, found {pixels.min()}..{pixels.max()}; convert the file"
        )
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
