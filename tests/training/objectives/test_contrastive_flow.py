"""The repulsion from other samples' velocities against its formula, and who the others are."""

import torch

from dit.diffusion.config import FlowConfig
from dit.diffusion.create import create_process
from dit.training.objectives.config import ContrastiveFlowConfig
from dit.training.objectives.contrastive_flow import ContrastiveFlow
from tests.training.objectives.passes import pass_through


def make_loss(group):
    return ContrastiveFlow(ContrastiveFlowConfig(group=group), None)


def test_others_are_the_rest_of_the_group_evenly():
    loss = make_loss(4)
    u = torch.arange(3, dtype=torch.float64).repeat_interleave(8) / 3 + 0.01  # three draws for each of 8 rows
    found = torch.stack([loss.others(part) for part in u.split(8)], dim=1)  # (8, 3)
    for row in range(8):
        first = row - row % 4
        assert sorted(found[row].tolist()) == [other for other in range(first, first + 4) if other != row]
    assert loss.others(torch.full((8,), 1 - 1e-16, dtype=torch.float64)).max() < 8


def test_against_the_formula():
    """On another path than the straight one, where the velocity of another sample depends on the sample's own time."""
    process = create_process(FlowConfig(schedule="gvp"))
    draw = torch.Generator().manual_seed(0)
    x_0, noise, output = (torch.randn(4, 3, 2, 2, generator=draw, dtype=torch.float64) for _ in range(3))
    t = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
    labels = torch.zeros(4, dtype=torch.long)
    seen = pass_through(lambda *_: output, process, x_0, labels, noise=noise, t=t)
    loss = make_loss(2)
    angle = (torch.pi / 2 * t).view(4, 1, 1, 1)
    other = [1, 0, 3, 2]  # of pairs there is no choice
    velocity = torch.pi / 2 * (angle.cos() * noise[other] - angle.sin() * x_0[other])
    expected = -(output - velocity).square().mean((1, 2, 3))
    torch.testing.assert_close(loss(seen), expected)
