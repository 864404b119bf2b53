"""A small autoencoder of every kind, saved as diffusers saves it."""

import diffusers
import pytest
import torch


def _small(name, **config):
    torch.manual_seed(0)
    return getattr(diffusers, name)(**config).eval()


def small_kl(**config):
    defaults = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "latent_channels": 3,
        "sample_size": 16,
    }
    return _small("AutoencoderKL", **defaults | config)


def small_tiny():
    sizes = dict.fromkeys(("encoder_block_out_channels", "decoder_block_out_channels"), (8, 8, 8))
    return _small("AutoencoderTiny", **sizes, num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1))


def small_dc():
    half = {"block_out_channels": (8, 8, 8), "layers_per_block": (1, 1, 1), "block_types": "ResBlock"}
    half["qkv_multiscales"] = ((), (), ())
    both = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in half.items()}
    return _small("AutoencoderDC", latent_channels=8, attention_head_dim=4, scaling_factor=0.41407, **both)


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves an autoencoder and returns the folder's name."""

    def save(vae, name: str = "vae") -> str:
        vae.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return save
