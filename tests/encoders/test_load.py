"""Encoders of timm: tokens and preparation against timm's own."""

import pytest
import timm
import torch

from dit.encoders.load import load_encoder
from dit.errors import ConfigError


@pytest.fixture
def untrained(monkeypatch):
    """Let timm give networks with random weights: pretrained ones need a network connection."""
    create_model = timm.create_model

    def create(name, *, pretrained):
        torch.manual_seed(0)
        return create_model(name, pretrained=False, **({"depth": 1} if name.startswith("vit") else {}))

    monkeypatch.setattr(timm, "create_model", create)


@torch.no_grad()
@pytest.mark.parametrize(("name", "num_prefix"), [("vit_tiny_patch16_224", 1), ("vit_medium_patch16_reg4_gap_256", 4)])
def test_tokens_are_those_of_the_patches(untrained, name, num_prefix):
    encoder = load_encoder(f"timm/{name}")
    size, patch = encoder.preparation.size[0], 16
    assert (encoder.preparation.size, encoder.training) == ((size, size), False)
    images = torch.rand(2, 3, size, size)
    tokens = encoder(images)
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    expected = timm.create_model(name, pretrained=True).eval().forward_features((images - mean) / std)
    assert torch.equal(tokens.patches, expected[:, num_prefix:])
    assert tokens.patches.shape[1] == (size // patch) ** 2
    assert tokens.class_token is None if num_prefix == 4 else torch.equal(tokens.class_token, expected[:, 0])


def test_a_network_without_tokens_is_refused(untrained):
    with pytest.raises(ConfigError, match=r"^timm/resnet10t: expected a vision transformer"):
        load_encoder("timm/resnet10t")(torch.rand(1, 3, 32, 32))
