"""configs/accelerate: what Accelerate makes of the files."""

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from dit.recipes import list_recipes
from tests.command import ROOT

EXPECTED = {"one_gpu": ("NO", 1, 1), "one_machine": ("MULTI_GPU", 1, 8), "several_machines": ("MULTI_GPU", 4, 32)}
EXPECTED |= {"fsdp2": ("MULTI_GPU", 1, 8)}


@pytest.mark.parametrize("name", EXPECTED)
def test_they_say_how_many_processes_there_are(name):
    config = load_config_from_file(str(ROOT / f"configs/accelerate/{name}.yaml"))  # refuses keys that it does not know
    assert (str(config.distributed_type.value), config.num_machines, config.num_processes) == EXPECTED[name]
    assert config.mixed_precision in (None, "no")  # the recipe's is taken


def test_they_are_all_tested_and_no_recipes():
    assert {path.stem for path in (ROOT / "configs/accelerate").iterdir()} == set(EXPECTED)
    assert not set(EXPECTED) & set(list_recipes())
