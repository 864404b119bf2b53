import pytest
import torch

from dit.diffusion.config import GaussianConfig
from dit.diffusion.gaussian import GaussianProcess
from tests.goldens import assert_close, load_network, load_tensors


@pytest.fixture(scope="module")
def golden():
    return load_tensors("gaussian_losses")


@pytest.fixture(scope="module")
def network():
    return load_network("dit_p2_sigma")[0]


@pytest.fixture
def process():
    return GaussianProcess(GaussianConfig())


def test_schedule_tables_match_the_original(process, golden):
    for actual, name in (
        (process.schedule.betas, "betas"),
        (process.schedule.alphas_cumprod, "alphas_cumprod"),
        (process.posterior_log_variance_clipped, "posterior_log_variance_clipped"),
        (process.posterior.beta, "betas"),
    ):
        assert_close(actual, golden[name], 1e-12)


def test_losses_match_the_original(process, network, golden):
    u = (golden["t"].double() + 0.5) / 1000
    losses = process.losses(network, golden["x0"], golden["y"], noise=golden["noise"], u=u)
    assert torch.equal((losses.t * 1000 - 1).round().long(), golden["t"])
    for actual, name in ((losses.terms["mse"], "mse"), (losses.terms["vb"], "vb"), (losses.loss, "loss")):
        torch.testing.assert_close(actual, golden[name], rtol=2e-5, atol=0)


def test_reverse_distribution_matches_the_original(process, network, golden):
    x_0, x_t, t = golden["x0"], golden["x_t"], golden["t"]
    time = process.schedule.time_of_step(t)
    assert_close(process.corrupt(x_0, golden["noise"], time), x_t, 2e-6)
    output = network(x_t, process.model_time(time), golden["y"])
    mean, log_variance = process.reverse_mean_and_log_variance(output, x_t, t)
    assert_close(mean, golden["p_mean"], 2e-6)
    assert_close(log_variance, golden["p_log_variance"], 2e-6)
    assert_close(process.denoise(output, x_t, time).x_0, golden["pred_x0"], 2e-6)
    assert_close(process.posterior_mean(x_0, x_t, t), golden["q_mean"], 2e-6)
    assert_close(process.prior_bits_per_dim(x_0), golden["prior_bits_per_dim"], 2e-5)


def test_the_network_is_fed_the_integer_step(process):
    steps = torch.arange(1000)
    assert torch.equal(process.model_time(process.schedule.time_of_step(steps)), steps.float())


def test_the_bound_does_not_reach_the_epsilon_half(process, network, golden):
    output = torch.randn(6, 8, 8, 8, requires_grad=True)
    u = (golden["t"].double() + 0.5) / 1000
    losses = process.losses(lambda *_: output, golden["x0"], golden["y"], noise=golden["noise"], u=u)
    losses.terms["vb"].sum().backward()
    assert output.grad is not None
    assert not output.grad[:, :4].any()
    assert output.grad[:, 4:].any()
