"""A small decoder for the latents of another autoencoder, whatever the normalisation of the model."""

import pytest
import torch
from torch.testing import assert_close

from dit.errors import ConfigError
from dit.latents.codec import load_codec
from dit.latents.config import LatentsConfig
from dit.latents.preview import load_preview
from tests.latents.conftest import small_kl, small_tiny, write_small_rae

LEVELS = {
    "block_out_channels": (8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 4,
}


@torch.no_grad()
@pytest.mark.parametrize("given", [{}, {"scale": 2.0}, {"mean": (1.0, 2.0, 3.0, 4.0), "std": (0.5, 1.0, 2.0, 4.0)}])
def test_it_decodes_the_latents_that_it_was_trained_on(saved, given):
    """TAESD: those of the other autoencoder by its own scaling_factor, which a model need not have."""
    vae, tiny = saved(small_kl(scaling_factor=0.18, shift_factor=0.1, **LEVELS)), small_tiny()
    codec = load_codec(LatentsConfig(vae=vae, **given))
    preview = load_preview(saved(tiny, "tiny"), codec)
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = 127.5 * tiny.decode((z - 0.1) * 0.18).sample + 128
    found = preview.decode(codec.normalise(z))
    assert_close(found, expected.clamp(0, 255).to(torch.uint8), atol=1, rtol=0)  # a level, where rounding tips it
    assert codec.preview is codec


def test_a_decoder_of_other_latents_is_refused(saved, tmp_path):
    codec = load_codec(saved(small_kl()))
    tiny = saved(small_tiny(), "tiny")
    problem = r"^sampling\.preview_decoder: expected a decoder for the latents of .* \(3, 2, 3\), found .* \(4, 4, 3\)"
    with pytest.raises(ConfigError, match=problem):
        load_preview(tiny, codec)
    rae = load_codec(write_small_rae(tmp_path / "rae"))
    with pytest.raises(ConfigError, match=r"^sampling\.preview_decoder: expected a decoder"):
        load_preview(str(tmp_path / "rae"), rae)


def test_it_moves_along(saved):
    codec = load_codec(saved(small_kl(**LEVELS)))
    codec.preview = load_preview(saved(small_tiny(), "tiny"), codec)
    assert codec.to("meta").preview.device == torch.device("meta")
