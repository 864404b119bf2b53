import numpy as np
import pytest
import torch

from dit.data.picture import BACKGROUND, image_grid
from dit.errors import DitError


def numbered(num, channels=1, height=2, width=3):
    """Images whose every pixel tells image, channel, row and column apart."""
    return torch.arange(num * channels * height * width, dtype=torch.uint8).view(num, channels, height, width)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_tile_is_its_image_enlarged_by_repetition(channels):
    images = numbered(5, channels)
    picture = np.asarray(image_grid(images, columns=2, scale=4, gap=3)).reshape(3 * 8 + 2 * 3, 2 * 12 + 3, channels)
    for index, image in enumerate(images.numpy()):
        top, left = (index // 2) * 11, (index % 2) * 15
        tile = picture[top : top + 8, left : left + 12]
        expected = np.kron(image.transpose(1, 2, 0), np.ones((4, 4, 1), dtype=np.uint8))
        np.testing.assert_array_equal(tile, expected)
    assert (picture[8:11] == BACKGROUND).all()
    assert (picture[:, 12:15] == BACKGROUND).all()
    assert (picture[22:, 15:] == BACKGROUND).all()  # the place of the missing sixth image


@pytest.mark.parametrize(("side", "tile"), [(32, 64), (28, 84), (64, 64), (256, 256)])
def test_small_images_are_enlarged_and_large_ones_are_not(side, tile):
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    picture = image_grid(images, columns=2, gap=1)
    assert picture.size == (2 * tile + 1, tile)
    assert picture.mode == "RGB"


def test_fewer_images_than_columns_leave_no_empty_columns():
    assert image_grid(numbered(2), columns=10, scale=1, gap=0).size == (6, 2)
    assert image_grid(numbered(2).numpy(), columns=10, scale=1, gap=0).mode == "L"


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 1, 4, 4), numbered(0), numbered(2, channels=2), numbered(2)[0]],
    ids=["float", "none", "two channels", "no batch"],
)
def test_refuses_what_is_no_batch_of_images(images):
    with pytest.raises(DitError, match=r"expected uint8 \(N, 1 or 3, H, W\), found"):
        image_grid(images, columns=2)
