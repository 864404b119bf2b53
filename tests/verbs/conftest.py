"""A run folder as `dit train` leaves it: a tiny network, three steps on the digits, exported and evaluated."""

import pytest

from dit.cli import main
from tests.command import RECIPE, TINY


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Run folder of three steps."""
    output = tmp_path_factory.mktemp("trained") / "run"
    options = ["--train.max_steps", "3", "--evaluation.num", "20", "--evaluation.batch_size", "10"]
    assert main(["train", RECIPE, "--output", str(output), *TINY, *options]) == 0
    return output
