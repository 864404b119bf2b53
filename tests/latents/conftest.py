"""A small autoencoder of every kind, saved as diffusers saves it."""

import pytest
import torch


def small_kl(**config):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        **{
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "block_out_channels": (8, 8),
            "norm_num_groups": 4,
            "latent_channels": 3,
            "sample_size": 16,
            **config,
        }
    ).eval()


def small_tiny(**config):
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    torch.manual_seed(0)
    return AutoencoderTiny(
        **{
            "encoder_block_out_channels": (8, 8, 8),
            "decoder_block_out_channels": (8, 8, 8),
            "num_encoder_blocks": (1, 1, 1),
            "num_decoder_blocks": (1, 1, 1),
            **config,
        }
    ).eval()


def small_dc(**config):
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

    torch.manual_seed(0)
    return AutoencoderDC(
        **{
            "latent_channels": 8,
            "attention_head_dim": 4,
            "encoder_block_out_channels": (8, 8, 8),
            "decoder_block_out_channels": (8, 8, 8),
            "encoder_layers_per_block": (1, 1, 1),
            "decoder_layers_per_block": (1, 1, 1),
            "encoder_block_types": "ResBlock",
            "decoder_block_types": "ResBlock",
            "encoder_qkv_multiscales": ((), (), ()),
            "decoder_qkv_multiscales": ((), (), ()),
            "scaling_factor": 0.41407,
            **config,
        }
    ).eval()


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves an autoencoder and returns the folder's name."""

    def save(vae, name: str = "vae") -> str:
        vae.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return save
