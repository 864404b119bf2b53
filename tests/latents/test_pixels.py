"""Pixels in place of latents: every level comes back, and a data set is encoded and read as any other."""

import pytest
import torch

from dit.latents.codec import Codec, load_codec


@pytest.mark.parametrize(("name", "channels"), [("pixels", 3), ("pixels_grey", 1)])
def test_every_level_comes_back(name, channels):
    codec = load_codec(name)
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, channels, 1, 1)
    moments = codec.encode(images)
    assert moments.shape == (2, channels, 16, 16)
    assert (moments.min(), moments.max()) == (-1, 1)
    latents = codec.latents_from_moments(moments, torch.randn(2, channels, 16, 16))
    assert torch.equal(codec.decode(latents), images)
    assert torch.equal(codec.decode(latents.half().float()), images)  # also from a cache of half precision


def test_it_is_described_and_found_again():
    codec = load_codec("pixels")
    description = codec.describe()
    assert (description.vae, description.class_name, description.downscale) == ("pixels", "Pixels", 1)
    assert Codec.from_description(description).fingerprint == codec.fingerprint
    assert load_codec("pixels_grey").fingerprint != codec.fingerprint
