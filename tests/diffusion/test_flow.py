import pytest
import torch

from dit.diffusion.config import FlowConfig
from dit.diffusion.flow import FlowProcess
from tests.goldens import assert_close, load_network

SIT = FlowConfig(time_scale=-1.0, time_offset=1.0, output_sign=-1, learn_sigma=True)


def test_published_flow_networks_give_the_originals_losses():
    """SiT runs from noise at 0 to data at 1, embeds the raw time and predicts data - noise."""
    network, golden = load_network("sit_linear_velocity")
    process = FlowProcess(SIT)
    u = 1 - golden["t"].double()
    losses = process.losses(network, golden["data"], golden["y"], noise=golden["noise"], u=u)
    torch.testing.assert_close(losses.loss, golden["loss"], rtol=2e-5, atol=0)
    x_t = process.corrupt(golden["data"], golden["noise"], u)
    assert_close(x_t, golden["x_t"], 2e-6)
    torch.testing.assert_close(process.model_time(u), golden["t"])
    prediction, _ = process.split(network(x_t, process.model_time(u), golden["y"]))
    assert_close(-prediction, golden["out"][:, :4], 2e-6)


def test_our_networks_embed_a_thousand_t():
    seen = []
    process = FlowProcess(FlowConfig())

    def model(x, t, y):
        seen.append(t)
        return x

    u = torch.tensor([0.25, 0.75], dtype=torch.float64)
    process.losses(model, torch.randn(2, 1, 2, 2), torch.zeros(2), noise=torch.randn(2, 1, 2, 2), u=u)
    assert torch.equal(seen[0], torch.tensor([250.0, 750.0]))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"prediction": "eps"}, "prediction eps with schedule linear says nothing about the data at t=1"),
        ({"schedule": "vp_linear"}, "prediction velocity with schedule vp_linear has an infinite target at t=0"),
        (
            {"schedule": "vp_linear", "prediction": "score"},
            "weighting uniform has an infinite expected loss",
        ),
    ],
)
def test_combinations_that_make_no_sense_are_refused_with_the_reason(options, reason):
    with pytest.raises(ValueError, match=reason):
        FlowConfig(**options)
