"""Do the features that measure the digits see broken ones? Break real digits, and look at every figure.

    python tools/check_features.py [--features mnist] [--num 1000] [--out DIR]

Of training digits, in the class balance of samples, a share is broken, each in one way, and all are measured beside the
clean held-out ones as a model's samples are. The first row, of none broken, is the floor. The table is printed; with
--out it is written to DIR/features.md, and DIR/broken.png has a row of digits for each way.

N images of one channel, H = W pixels, uint8, white on black.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from dit.data.config import DataConfig
from dit.data.images import open_images
from dit.data.mnist import CLASS_NAMES, IMAGE_SIZE, mnist_images
from dit.data.picture import image_grid
from dit.errors import DitError
from dit.evaluation.described import DescribedImages
from dit.evaluation.evaluate import balanced_labels, matched_indices
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.features import load_features
from dit.figures import plus_minus
from dit.files import write_text
from dit.markdown import markdown_table

DIGITS = DataConfig(source="mnist", image_size=IMAGE_SIZE)
SHARES = (0.05, 0.1, 0.3)
SHOWN = 20  # digits in a row of the picture


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", default="mnist")
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--out", type=Path, metavar="DIR")
    given = parser.parse_args(argv)
    extractor = load_features(given.features)
    rows = []
    for row in measure(extractor, *balanced(given.num)):
        print(*row.values(), sep="  ", flush=True)
        rows.append(row)
    table = markdown_table(rows)
    print(table)
    if given.out is not None:
        write_text(given.out / "features.md", table + "\n")
        images, _ = balanced(SHOWN)
        shown = torch.cat([images, *(break_all(name, images) for name in BREAKS)])
        image_grid(shown.numpy(), columns=SHOWN).save(given.out / "broken.png")
    return 0


def balanced(num: int) -> tuple[Tensor, Tensor]:
    """Return training digits (num, 1, H, W) with their labels (num,): those that an evaluation's floor is of."""
    indices = matched_indices(open_images(DIGITS, "train"), balanced_labels(num, len(CLASS_NAMES)), CLASS_NAMES)
    return digits("train", indices)


def digits(split: str, indices: np.ndarray | slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Return digits of a split (N, 1, H, W) with their labels (N,)."""
    images, labels = mnist_images(split)
    return torch.from_numpy(images[indices]).unsqueeze(1), torch.from_numpy(labels[indices])


def measure(extractor: FeatureExtractor, images: Tensor, labels: Tensor) -> Iterator[dict[str, str]]:
    """Yield a row for digits of which none is broken, and for each way and share."""
    reference = describe(extractor, *digits("val"))
    yield {"broken by": "nothing", "share": "0%"} | figures_of(describe(extractor, images, labels), reference)
    for name in BREAKS:
        broken = break_all(name, images)
        for share in SHARES:
            is_broken = torch.randperm(len(images), generator=generator(name)) < round(share * len(images))
            mixed = torch.where(is_broken[:, None, None, None], broken, images)
            found = describe(extractor, mixed, labels)
            yield {"broken by": name, "share": f"{share:.0%}"} | figures_of(found, reference)


def describe(extractor: FeatureExtractor, images: Tensor, labels: Tensor) -> DescribedImages:
    """Return what the extractor says of images (N, 1, H, W) with labels (N,)."""
    described = DescribedImages(extractor, CLASS_NAMES)
    for some, their_labels in zip(images.split(250), labels.split(250), strict=True):
        described.update(some, their_labels)
    return described


def figures_of(found: DescribedImages, reference: DescribedImages) -> dict[str, str]:
    """Return the cells of a row."""
    distance, shares = found.frechet(reference), found.precision_recall(reference)
    accuracy = {} if found.accuracy is None else {"class accuracy": f"{found.accuracy.overall:.1%}"}
    return {
        "Frechet distance": plus_minus(distance.value, distance.standard_error),
        **{name: f"{figure.value:.3f}" for name, figure in shares.items()},
        **accuracy,
    }


def generator(name: str) -> torch.Generator:
    """Return the random numbers of one way of breaking; the same in every run."""
    return torch.Generator().manual_seed(list(BREAKS).index(name))


def break_all(name: str, images: Tensor) -> Tensor:
    """Break all of images (N, 1, H, W) in one way."""
    random = generator(name)
    return torch.stack([BREAKS[name](image[0].float(), random) for image in images]).clamp(0, 255).byte().unsqueeze(1)


def erase(image: Tensor, random: torch.Generator) -> Tensor:
    """Erase a disc of 9 pixels around a place on the stroke."""
    along, across = around(image, ink(image, random), random)
    return image.where(along.square() + across.square() > 4.5**2, 0)


def cut(image: Tensor, random: torch.Generator) -> Tensor:
    """Cut through the digit with a gap of 3 pixels, at any angle, through a place on the stroke."""
    along, _ = around(image, ink(image, random), random)
    return image.where(along.abs() > 1.5, 0)


def stray(image: Tensor, random: torch.Generator) -> Tensor:
    """Add a straight stroke, 12 pixels long and 2.5 wide, at any angle and anywhere in the middle 20 pixels."""
    along, across = around(image, 6 + 20 * torch.rand(2, generator=random), random)
    outside = torch.hypot((along.abs() - 6).clamp(min=0), across)
    return torch.maximum(image, 255 * (1.75 - outside).clamp(0, 1))


def shift(image: Tensor, random: torch.Generator) -> Tensor:
    """Move the lower half by 4 pixels to one side."""
    half, sign = len(image) // 2, 1 if torch.rand((), generator=random) < 0.5 else -1
    return torch.cat([image[:half], image[half:].roll(4 * sign, dims=1)])


def blur(image: Tensor, random: torch.Generator) -> Tensor:
    """Blur with a Gaussian of 1.5 pixels."""
    bell = torch.exp(-torch.arange(-5.0, 6.0).square() / (2 * 1.5**2))
    kernel = bell.outer(bell) / bell.sum().square()
    return conv2d(image[None, None], kernel[None, None], padding=5)[0, 0]


BREAKS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "a piece erased": erase,
    "a gap": cut,
    "a stray stroke": stray,
    "a shifted half": shift,
    "blur": blur,
}
"""Way of breaking -> its function of a digit (H, W) in 0..255."""


def ink(image: Tensor, random: torch.Generator) -> Tensor:
    """Return a random place (2,) on the stroke."""
    places = (image > 127).nonzero()
    return places[torch.randint(len(places), (), generator=random)].float()


def around(image: Tensor, centre: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the coordinates (H, W) of all pixels around a place, on axes that are turned at random."""
    angle = torch.pi * torch.rand((), generator=random)
    y, x = (torch.arange(float(size)) - place for size, place in zip(image.shape, centre, strict=True))
    y, x = torch.meshgrid(y, x, indexing="ij")
    return angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DitError as error:
        sys.exit(f"check_features: {error}")
