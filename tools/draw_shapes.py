"""Draw coloured circles, squares and triangles: a folder of images in three classes, to try a recipe on.

python tools/draw_shapes.py FOLDER [--num 500] [--size 64] [--seed 0]

Each image has one shape at a place, size, angle and colour of its own before a background of another colour.
"""

import argparse
import colorsys
import random
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm import tqdm

NUM_SIDES = {"circle": 90, "square": 4, "triangle": 3}
SCALE = 4  # drawn larger and reduced, so that edges are smooth


def draw_shape(num_sides: int, size: int, rng: random.Random) -> Image.Image:
    """Draw one regular polygon into an image of `size` pixels a side."""
    side = size * SCALE
    hue = rng.random()
    image = Image.new("RGB", (side, side), _colour(hue + rng.uniform(0.25, 0.75), 0.35, rng.uniform(0.75, 1.0)))
    radius = side * rng.uniform(0.25, 0.4)
    centre = [rng.uniform(radius, side - radius) for _ in range(2)]
    colour = _colour(hue, rng.uniform(0.7, 1.0), rng.uniform(0.6, 0.9))
    ImageDraw.Draw(image).regular_polygon((*centre, radius), num_sides, rotation=rng.uniform(-10, 10), fill=colour)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def main() -> None:
    """Write FOLDER/CLASS/NUMBER.png."""
    parser = argparse.ArgumentParser(description="Draw coloured circles, squares and triangles into FOLDER/CLASS/.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--num", type=int, default=500, help="images of each class")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    for name, num_sides in NUM_SIDES.items():
        folder = options.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in tqdm(range(options.num), desc=name, unit="image"):
            draw_shape(num_sides, options.size, rng).save(folder / f"{i:05}.png")


if __name__ == "__main__":
    main()
