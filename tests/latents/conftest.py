"""A small autoencoder of every kind, saved as diffusers saves it."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from dit.latents.rae import Decoder
from tests.goldens import load_tensors


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


def write_small_rae(folder: Path, **changes) -> str:
    """Write a random RAE: the golden's encoder of images of 12 pixels, 32 channels on a grid of 3, images of 24."""
    config = {
        "_class_name": "AutoencoderRAE",
        "encoder_hidden_size": 32,
        "encoder_num_attention_heads": 2,
        "encoder_patch_size": 4,
        "encoder_input_size": 12,
        "patch_size": 8,
        "decoder_hidden_size": 16,
        "decoder_intermediate_size": 24,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
        "num_channels": 3,
    }
    torch.manual_seed(0)
    encoder = load_tensors("families/rae_encoder")
    tensors = {key.removeprefix("state."): value for key, value in encoder.items() if key.startswith("state.")}
    tensors |= {f"decoder.{name}": tensor for name, tensor in Decoder(config, 3).state_dict().items()}
    tensors |= {"_latents_mean": torch.randn(32, 3, 3), "_latents_std": torch.rand(32, 3, 3) + 0.5}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config | changes))
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return str(folder)


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves an autoencoder and returns the folder's name."""

    def save(vae, name: str = "vae") -> str:
        vae.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return save
