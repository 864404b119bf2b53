import pytest

from dit.sampling.config import SamplingConfig
from dit.sampling.guidance import Guidance
from tests.goldens import assert_close, load_network


def guide(model, *, null_class, scale, num_channels, **options):
    """Return the guided network as a function of (x_t, t, y), at the process's time 0.5."""
    guidance = Guidance(model, model, null_class, SamplingConfig(guidance=scale, **options), num_channels)
    return lambda x, t, y: guidance(x, 0.5, t, y)[0]


@pytest.mark.parametrize("name", ["dit_p2_sigma", "dit_p4_nosigma"])
def test_guided_forward_matches_the_original(name):
    """The original's batch is [cond; null]; the second half of its output is the null branch's own other channels."""
    model, golden = load_network(name)
    num = len(golden["cfg_x"]) // 2
    guided = guide(model, null_class=model.null_class, scale=4.0, num_channels=3)
    output = guided(golden["cfg_x"][:num], golden["cfg_t"][:num], golden["cfg_y"][:num])
    assert_close(output, golden["cfg_out"][:num], 1e-5)


def test_guided_flow_forward_matches_the_original():
    model, golden = load_network("sit_linear_velocity")
    guided = guide(model, null_class=model.null_class, scale=2.5, num_channels=3)
    output = guided(golden["cfg_z"][:2], golden["cfg_t"][:2], golden["cfg_y"][:2])
    assert_close(output[:, :4], golden["cfg_out"][:2], 1e-5)
