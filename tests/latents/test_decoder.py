"""The fast decoder against the same one in float32 and in plain bfloat16."""

import copy

import pytest
import torch

from dit.latents import decoder
from dit.latents.decoder import speed_up_decoder
from dit.latents.kl import KLAutoencoder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return KLAutoencoder({"block_out_channels": [32, 64]}).eval()


def decode(autoencoder, z):
    with torch.no_grad():
        return autoencoder.decode(z).float()


def test_it_is_no_less_exact_than_plain_bfloat16(autoencoder, monkeypatch):
    monkeypatch.setattr(decoder, "bf16_pays", lambda device, width: True)
    z = torch.randn(2, 4, 8, 8)
    exact = decode(autoencoder, z)
    fast = copy.deepcopy(autoencoder)
    dtype = speed_up_decoder(fast, CPU)
    assert dtype == torch.bfloat16
    assert fast.encoder.conv_in.weight.dtype == torch.float32
    assert fast.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    error = (decode(fast, z.to(dtype, memory_format=torch.channels_last)) - exact).norm() / exact.norm()
    plain = (decode(copy.deepcopy(autoencoder).bfloat16(), z.bfloat16()) - exact).norm() / exact.norm()
    assert 0 < error <= 1.1 * plain


def test_where_it_does_not_pay_nothing_changes(autoencoder, monkeypatch):
    asked = []
    monkeypatch.setattr(decoder, "bf16_pays", lambda device, width: bool(asked.append(width)))
    same = copy.deepcopy(autoencoder)
    assert speed_up_decoder(same, CPU) == torch.float32
    assert asked == [64]
    assert torch.equal(decode(same, torch.ones(1, 4, 8, 8)), decode(autoencoder, torch.ones(1, 4, 8, 8)))


def test_other_precisions_are_left_alone(autoencoder):
    assert speed_up_decoder(copy.deepcopy(autoencoder).half(), CPU) == torch.float16
