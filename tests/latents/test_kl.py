"""The KL autoencoder against diffusers' of the same weights."""

import pytest
import torch

from dit.latents.kl import KLAutoencoder, Upsample
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
    "attention in levels": {
        "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        "layers_per_block": 2,
    },
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
    torch.testing.assert_close(ours.encode(images), vae.encode(images).latent_dist.parameters, rtol=0, atol=1e-5)
    z = torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(ours.decode(z), vae.decode(z).sample, rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_a_configuration_leaves_out_is_what_diffusers_takes():
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL().eval()
    ours = KLAutoencoder({"_class_name": "AutoencoderKL"})
    ours.load_state_dict(vae.state_dict(), strict=True)
    z = torch.randn(1, 4, 4, 4)
    torch.testing.assert_close(ours.decode(z), vae.decode(z).sample, rtol=0, atol=1e-5)  # sums in another order


def test_va_vae_has_the_published_size():
    config = {
        "block_out_channels": [128, 128, 256, 256, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4 + ["AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 32,
    }
    with torch.device("meta"):
        network = KLAutoencoder(config)
    tensors = network.state_dict().values()
    assert (len(tensors), sum(tensor.numel() for tensor in tensors), network.downscale) == (342, 69_836_067, 16)


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
        {"down_block_types": ["DownEncoderBlock2D", "KDownBlock2D"]},
        {"up_block_types": ["SkipUpBlock2D"]},
    ],
)
def test_relatives_are_told_apart(change):
    config = {"_class_name": "AutoencoderKL", "act_fn": "silu"}
    assert KLAutoencoder.is_supported(config)
    assert not KLAutoencoder.is_supported(config | change)


@torch.no_grad()
def test_merged_upsampling_is_the_same_convolution():
    layer = Upsample(5).double()
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    expected = layer(x)
    layer.merge(torch.float64)
    assert layer.merged is not None
    found = layer(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # the sums are taken in float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert list(layer.state_dict()) == ["conv.weight", "conv.bias"]


def test_gradients_are_those_of_diffusers():
    """What runs in place without gradients does not with them."""
    vae = small_kl()
    ours = network(vae)
    z = torch.randn(1, 3, 4, 4)
    ours.decode(z).square().sum().backward()
    vae.decode(z).sample.square().sum().backward()
    expected = dict(vae.named_parameters())
    for name, parameter in ours.decoder.named_parameters(prefix="decoder"):
        torch.testing.assert_close(parameter.grad, expected[name].grad)
