"""Guidance by the routed network."""

import pytest
import torch

from dit.config import load_recipe
from dit.diffusion.config import FlowConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError
from dit.models import create_model
from dit.rng import Purpose, normal
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from tests.goldens import load_network

SHAPE, PROCESS, Y = (4, 8, 8), create_process(FlowConfig(learn_sigma=True)), torch.tensor([0, 3, 1])
ROUTING = {"leave_after": 1, "rejoin_after": 2, "ratio": 0.5}


@pytest.fixture(scope="module")
def network():
    return load_network("dit_p2_sigma")[0]


def sampling(**changes):
    return SamplingConfig.model_validate(
        {"solver": "euler", "steps": 3, "guidance": 2.5, "guidance_routing": ROUTING, **changes}
    )


def test_samples_are_those_of_a_loop_by_hand(network):
    x = noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    found = sample(network, PROCESS, Y, SHAPE, sampling=sampling(), seed=5, noise=noise)
    times = [1, 2 / 3, 1 / 3, 0]
    for k in range(3):
        t = torch.full((3,), times[k])
        keep = normal(5, Purpose.ROUTE, range(3), (16,), step=k).argsort(1)[:, :8]
        c = network(x, PROCESS.model_time(t), Y)[:, :4]
        u, _ = network.forward_routed(x, PROCESS.model_time(t), Y, keep, leave_after=1, rejoin_after=2)
        x = x + (times[k + 1] - times[k]) * (u[:, :4] + 2.5 * (c - u[:, :4]))
    assert found.num_calls == 6
    torch.testing.assert_close(found.latents, x, rtol=0, atol=1e-5)  # float32 over three steps


def test_a_sample_depends_on_its_position_alone(network):
    whole = sample(network, PROCESS, Y, SHAPE, sampling=sampling(), seed=1).latents
    alone = sample(network, PROCESS, Y[2:], SHAPE, sampling=sampling(), seed=1, positions=[2]).latents
    torch.testing.assert_close(alone[0], whole[2], rtol=0, atol=1e-5)  # products of other sizes round differently


def test_without_guidance_nothing_is_routed(network):
    plain, off = SamplingConfig(solver="euler", steps=3), sampling(guidance=1.0)
    samples = [sample(network, PROCESS, Y, SHAPE, sampling=section) for section in (plain, off)]
    assert [drawn.num_calls for drawn in samples] == [3, 3]
    torch.testing.assert_close(samples[0].latents, samples[1].latents, rtol=0, atol=1e-5)


def test_what_can_not_guide_is_refused(network):
    with pytest.raises(ConfigError, match=r"rejoin_after: expected a block of the network's 3, found 9"):
        sample(network, PROCESS, Y, SHAPE, sampling=sampling(guidance_routing={"rejoin_after": 9}))
    with pytest.raises(ConfigError, match=r"guidance_routing: expected null beside a guide, found both"):
        sample(network, PROCESS, Y, SHAPE, sampling=sampling(), weaker=network)
    other = create_model("uvit_ti_2", num_classes=3, input_size=8, in_channels=4)
    with pytest.raises(ConfigError, match=r"guidance_routing: expected a network whose blocks .* found UViT, whose"):
        sample(other, create_process(FlowConfig()), Y, SHAPE, sampling=sampling())


def test_no_null_class_is_needed():
    route = {"sampling.guidance_routing.leave_after": 1, "sampling.guidance_routing.rejoin_after": 4}
    recipe = load_recipe("dit_ti_2_mnist", {"model.class_dropout_prob": 0.0, "sampling.guidance": 2.0, **route})
    assert recipe.sampling.guidance_routing.model_dump() == {"leave_after": 1, "rejoin_after": 4, "ratio": 0.5}
