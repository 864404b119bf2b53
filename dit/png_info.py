"""PNG files that say how they were made, in text chunks that image viewers show and survive copying.

Software    dit-zoo and its version
Command     the command that makes the file again
Settings    JSON: model, classes, seed and everything of the sampling section
"""

import io

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dit import __version__


def png_file(picture: Image.Image, **texts: str) -> bytes:
    """Return a PNG file of a picture with these texts in it; the same picture and texts give the same bytes."""
    info = PngInfo()
    for name, text in {"Software": f"dit-zoo {__version__}", **texts}.items():
        info.add_text(name, text)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def png_texts(file: bytes) -> dict[str, str]:
    """Return the texts of a PNG file by name; none for a file of another kind."""
    with Image.open(io.BytesIO(file)) as picture:
        return dict(getattr(picture, "text", {}))
