"""The KL autoencoder against diffusers' of the same weights."""

import pytest
import torch

from dit.latents.kl import KLAutoencoder
from tests.latents.conftest import small_kl

SHAPES = {
    "two levels": {},
    "three widths": {
        "block_out_channels": (8, 12, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 2,
    },
    "no convolution around z": {"use_quant_conv": False, "use_post_quant_conv": False},
    "no attention": {"mid_block_add_attention": False},
    "grey": {"in_channels": 1, "out_channels": 1},
}


def network(vae) -> KLAutoencoder:
    ours = KLAutoencoder(vae.config)
    ours.load_state_dict(vae.state_dict(), strict=True)
    return ours.eval()


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_same_numbers_as_diffusers(shape):
    vae = small_kl(**SHAPES[shape])
    ours = network(vae)
    images = torch.randn(2, vae.config.in_channels, 16, 24)
    assert torch.equal(ours.encode(images), vae.encode(images).latent_dist.parameters)
    z = torch.randn(2, 3, 4, 6)
    assert torch.equal(ours.decode(z), vae.decode(z).sample)


@torch.no_grad()
def test_what_a_configuration_leaves_out_is_what_diffusers_takes():
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL().eval()
    ours = KLAutoencoder({"_class_name": "AutoencoderKL"})
    ours.load_state_dict(vae.state_dict(), strict=True)
    z = torch.randn(1, 4, 4, 4)
    assert torch.equal(ours.decode(z), vae.decode(z).sample)


def test_older_names_of_the_attention_layers():
    names = set(network(small_kl()).state_dict())
    old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    for before, after in old.items():
        found = KLAutoencoder.current_name(f"decoder.mid_block.attentions.0.{before}.weight")
        assert found == f"decoder.mid_block.attentions.0.{after}.weight"
        assert found in names
    assert all(KLAutoencoder.current_name(name) == name for name in names)


@pytest.mark.parametrize(
    "change",
    [
        {"_class_name": "AutoencoderTiny"},
        {"act_fn": "gelu"},
        {"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]},
        {"up_block_types": ["AttnUpDecoderBlock2D"]},
    ],
)
def test_relatives_are_told_apart(change):
    config = {"_class_name": "AutoencoderKL", "act_fn": "silu"}
    assert KLAutoencoder.is_supported(config)
    assert not KLAutoencoder.is_supported(config | change)
