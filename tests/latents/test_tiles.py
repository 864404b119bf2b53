"""Tiles against one piece, by decoders that look at so many positions around one."""

import pytest
import torch
from torch import nn

from dit.errors import ConfigError
from dit.latents.codec import load_codec
from dit.latents.tiles import decode_in_tiles
from tests.latents.conftest import small_kl

Z = torch.randn(2, 3, 13, 20, generator=torch.Generator().manual_seed(0))


def enlarge(z):
    """A decoder that looks at one position for each of its 4 x 4 pixels."""
    return nn.functional.interpolate(z, scale_factor=4)


@pytest.mark.parametrize("tile", [8, 11, 13, 16, 20, 64])
def test_a_decoder_of_single_positions_is_that_of_one_piece(tile):
    found = decode_in_tiles(enlarge, Z, tile=tile, downscale=4)
    torch.testing.assert_close(found, enlarge(Z), rtol=1e-6, atol=1e-6)  # a weighted mean of equal values, rounded


def test_a_tile_fades_into_the_next():
    """Tiles of a constant each: pixels of a row go from one value to the other without a jump."""
    values = iter((0.0, 1.0))
    image = decode_in_tiles(lambda z: torch.full((1, 1, 8, 8), next(values)), Z[:1, :, :8, :14], tile=8, downscale=1)
    assert image.shape == (1, 1, 8, 14)
    row = image[0, 0, 0]
    assert row[:6].tolist() == [0] * 6
    assert row[8:].tolist() == [1] * 6
    torch.testing.assert_close(row[6:8], torch.tensor([0.25, 0.75]))


def test_no_tile_is_larger_than_asked_for_and_all_is_covered():
    seen = []
    decode_in_tiles(lambda z: seen.append(tuple(z.shape[-2:])) or enlarge(z), Z, tile=8, downscale=4)
    assert set(seen) == {(8, 8)}
    assert len(seen) == 2 * 3


def test_a_codec_decodes_image_by_image_in_tiles(saved):
    codec = load_codec(saved(small_kl()))
    latents = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    whole = codec.decode(latents)
    assert torch.equal(codec.in_tiles(16).decode(latents), codec.in_tiles(None).exact().decode(latents))
    tiled = codec.in_tiles(8).decode(latents)
    assert codec.slice_size_on(torch.device("cuda"), 32, 32) == 1
    assert tiled.shape == whole.shape
    assert not torch.equal(tiled, whole)
    assert torch.equal(codec.decode(latents[1:2])[0], tiled[1])


def test_tiles_that_can_not_be_are_refused():
    codec = load_codec("pixels_grey")
    with pytest.raises(ConfigError, match="decoder_tile: expected at least 8, found 4"):
        codec.in_tiles(4)
    codec.autoencoder.image_size = 256
    with pytest.raises(ConfigError, match="decoder_tile: expected none, for 'pixels_grey' makes images of one size"):
        codec.in_tiles(16)
