"""The distance to the averaged network's tokens against a second implementation."""

import torch
from torch import nn

from dit.diffusion.config import FlowConfig
from dit.diffusion.create import create_process
from dit.rng import Purpose, StepDraws
from dit.training.objectives.config import SelfAlignmentConfig
from dit.training.objectives.objective import WithHeads
from dit.training.objectives.self_alignment import SelfAlignment
from tests.training.fakes import make_parts, make_recipe
from tests.training.objectives.passes import pass_through, surroundings_of


def test_against_another_implementation():
    """As the public code has it: the teacher's blocks run by hand, the distance by torch's own mean."""
    recipe = make_recipe(**{"train.seed": 3})
    network, *_ = make_parts(recipe)
    teacher, *_ = make_parts(make_recipe(**{"train.seed": 4}))
    process = create_process(FlowConfig())
    config = SelfAlignmentConfig(block=1, teacher_block=2)
    loss = SelfAlignment(config, surroundings_of(network, average=teacher))
    x_0, noise = torch.randn(6, 2, 4, 4), torch.randn(6, 2, 4, 4)
    y, t = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([0.01, 0.1, 0.3, 0.5, 0.7, 1.0], dtype=torch.float64)
    draws = StepDraws(0, 5, 6, range(6))

    with_heads = WithHeads(network, {"self_alignment": loss})
    _, tokens = with_heads(process.corrupt(x_0, noise, t), process.model_time(t), y, tokens_for=["self_alignment"])
    seen = pass_through(network, process, x_0, y, noise=noise, t=t, draws=draws, tokens=tokens["self_alignment"])
    actual = loss(seen)

    cleaner = (t - 0.2 * draws.uniform(Purpose.TEACHER_TIME)).clamp(min=0).view(6, 1, 1, 1).float()
    assert cleaner.min() == 0
    z = teacher.embed((1 - cleaner) * x_0 + cleaner * noise)
    c = teacher.t_embedder(1000 * cleaner.flatten()) + teacher.y_embedder(y)
    for block in teacher.blocks:
        z = block(z, c)
    first, _, last = loss.head
    _, (own,) = network.forward_intermediates(process.corrupt(x_0, noise, t), process.model_time(t), y, after=[1])
    projected = last(nn.functional.silu(first(own)))
    expected = nn.functional.smooth_l1_loss(projected, z, beta=0.05)
    torch.testing.assert_close(actual.mean(), expected, rtol=1e-5, atol=0)
    actual.mean().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in loss.head.parameters())
