"""A run folder as `dit train` leaves it: a tiny network, three steps on the digits, exported and evaluated."""

import numpy as np
import pytest
import torch
from PIL import Image

from dit.cli import main
from tests.command import RECIPE, TINY


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Run folder of three steps."""
    output = tmp_path_factory.mktemp("trained") / "run"
    options = ["--train.max_steps", "3", "--evaluation.num", "20", "--evaluation.batch_size", "10"]
    assert main(["train", RECIPE, "--output", str(output), *TINY, *options]) == 0
    return output


@pytest.fixture
def jpegs(tmp_path):
    """A folder of two classes with ten JPEGs each, of different sizes."""
    generator = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            pixels = generator.integers(0, 255, (40 + i, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.jpg")
    return tmp_path / "images"


@pytest.fixture
def small_vae(tmp_path):
    """A small autoencoder of diffusers with random weights, saved as its users save them."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    vae = AutoencoderKL(block_out_channels=[8, 16], norm_num_groups=4, layers_per_block=1, **blocks)
    vae.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"
