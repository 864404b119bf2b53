"""A run folder as `dit train` leaves it: a tiny network, three steps on the digits, exported and evaluated."""

import pytest

from dit.cli import main
from tests.command import RECIPE, TINY
from tests.data.pictures import write_folder
from tests.latents.conftest import small_kl


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Run folder of three steps."""
    output = tmp_path_factory.mktemp("trained") / "run"
    options = ["--train.max_steps", "3", "--evaluation.num", "20", "--evaluation.batch_size", "10"]
    options += ["--sampling.preview_decoder", "mnist"]
    assert main(["train", RECIPE, "--output", str(output), *TINY, *options]) == 0
    return output


@pytest.fixture
def jpegs(tmp_path):
    """A folder of two classes with ten JPEGs each."""
    return write_folder(tmp_path / "images", {"cats": 10, "dogs": 10}, size=40)


@pytest.fixture
def small_vae(tmp_path):
    """A small autoencoder of diffusers with random weights, saved as its users save them."""
    small_kl(block_out_channels=(8, 16), latent_channels=4).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"
