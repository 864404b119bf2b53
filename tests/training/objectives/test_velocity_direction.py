"""LightningDiT's cosine term against the original's loss."""

import pytest
import torch

from dit.diffusion.create import create_process
from dit.training.objectives.config import VelocityDirectionConfig
from dit.training.objectives.velocity_direction import VelocityDirection
from tests.goldens import assert_close
from tests.models.test_goldens import DATA_AT_1, read
from tests.training.objectives.passes import pass_through


@pytest.mark.parametrize("name", ["lightningdit", "lightningdit_options"])
def test_golden(name):
    network, golden, _ = read(name)
    process = create_process(DATA_AT_1)
    t, x_0 = 1 - golden["t"].double(), golden["loss_data"]
    seen = pass_through(network, process, x_0, golden["y"], noise=golden["loss_noise"], t=t)
    loss = VelocityDirection(VelocityDirectionConfig(), None)(seen)
    assert_close(loss, golden["loss_cos"], 2e-5)  # of losses, as tests/goldens/README.md says


def test_the_opposite_direction_costs_two():
    process = create_process(DATA_AT_1)
    x_0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    def network(x_t, t, y):
        return 0.1 * (noise - x_0) * torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)  # of output_sign -1

    seen = pass_through(network, process, x_0, torch.zeros(2, dtype=torch.long), noise=noise, t=torch.full((2,), 0.3))
    loss = VelocityDirection(VelocityDirectionConfig(), None)(seen)
    torch.testing.assert_close(loss, torch.tensor([0.0, 2.0]), rtol=0, atol=1e-6)
