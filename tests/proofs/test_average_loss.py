"""Proof 18: the exact average velocity is where the losses of average velocities rest, and what they leave over.

Of data N(m, s^2) with noise of deviation n the flow keeps (x - alpha m) / sqrt(V), so that u = (x_t - x_r) / (t - r) is
known. Guidance of scale w between a class N(m_c, s^2) and the null class N(m_n, s^2), whose velocities differ by no
more than a number, is the flow of data N(m_n + w (m_c - m_n), s^2). A sample's velocity differs from the flow's by a
variance n^2 s^2 / V. The derivative along the sample's own velocity carries a share 1 - sqrt(V_r / V_t) of that
difference, the one along the flow nothing.
"""

import pytest
import torch

from dit.diffusion.config import AverageVelocityConfig
from dit.diffusion.create import create_process
from tests.proofs.gaussian_data import at_nodes

NULL, STD, OF_CLASS, OF_NULL = 1, 0.5, 0.4, -0.3
TIMES = [(0.96875, 0.03125), (0.75, 0.25), (0.875, 0.75), (0.25, 0.03125), (0.5, 0.5), (0.375, 0.125), (1 / 32, 1 / 32)]
EXACT = {"rtol": 1e-11, "atol": 1e-12}


def column(values):
    return values.double().reshape(-1, 1, 1, 1)


def variance(t, noise):
    return (1 - t) ** 2 * STD**2 + (noise * t) ** 2


def velocity(x, t, mean, noise):
    slope = (noise**2 * t - (1 - t) * STD**2) / variance(t, noise)
    return slope * (x - (1 - t) * mean) - mean


def flow(x, start, end, mean, noise):
    ratio = (variance(end, noise) / variance(start, noise)).sqrt()
    return (1 - end) * mean + ratio * (x - (1 - start) * mean)


def average(x, t, r, v, end):
    """Return (x - end) / (t - r), or v where r = t."""
    return torch.where(t == r, v, (x - end) / torch.where(t == r, 1.0, t - r))


class Exact:
    """The exact averages of a class and the null class, guided by w; changed a little by parameters."""

    def __init__(self, noise=1.0, guidance=1.0):
        self.noise, self.guidance = noise, guidance
        self.change = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def mean(self, y, scale):
        return OF_NULL + column(y != NULL) * scale * (OF_CLASS - OF_NULL)

    def __call__(self, x, t, y, *, r=None, h=None):
        t = column(t)
        r, mean = column(r) if h is None else t - column(h), self.mean(y, self.guidance)
        u = average(x, t, r, velocity(x, t, mean, self.noise), flow(x, t, r, mean, self.noise))
        return u + self.change[0] + self.change[1] * x


class ExactImf(Exact):
    """The same with guidance as an input, which acts in an interval, and with an output for the velocity."""

    def __call__(self, x, t, y, *, h, guidance, t_min, t_max, heads="u"):
        t, low, high = column(t), column(t_min), column(t_max)
        r, guided, plain = t - column(h), self.mean(y, column(guidance)), self.mean(y, 1.0)
        v = velocity(x, t, torch.where((low <= t) & (t <= high), guided, plain), self.noise)
        enter = torch.minimum(torch.maximum(high, r), t)
        leave = torch.minimum(torch.maximum(low, r), enter)
        end = flow(x, t, enter, plain, self.noise)
        end = flow(flow(end, enter, leave, guided, self.noise), leave, r, plain, self.noise)
        outputs = {"u": average(x, t, r, v, end), "v": v}
        outputs = [outputs[head] + self.change[0] + self.change[1] * x for head in heads]
        return torch.cat(outputs, dim=1)


def losses_at_nodes(network, loss, noise, y, mean, condition="h", further=()):
    """Return the losses' values (len(TIMES), 9) by name, and the weights of the nodes (9,)."""
    config = {"condition": condition, "noise_scale": noise, "time_law": {"name": "uniform"}}
    config["loss"] = {"weight_power": 0.0, "equal_share": 0.0, **loss}
    process = create_process(AverageVelocityConfig.model_validate(config), null_class=NULL)
    x_0, eps, weights = at_nodes(len(TIMES))
    u = torch.tensor([(*times, 0.5, *further) for times in TIMES], dtype=torch.float64).repeat_interleave(9, 0)
    labels = torch.full((len(u),), y)
    losses = process.losses(network, mean + STD * x_0, labels, noise=eps, u=u)
    return {"loss": losses.loss.reshape(-1, 9), **{k: v.reshape(-1, 9) for k, v in losses.terms.items()}}, weights


def assert_rests(network, loss):
    """No change of the network lowers the expected loss at any of the times."""
    for one in loss:
        (slope,) = torch.autograd.grad(one, network.change, retain_graph=True)
        assert slope.abs().max() < 1e-11


@pytest.mark.parametrize("noise", [1.0, 2.0])
@pytest.mark.parametrize("condition", ["r", "h"])
@pytest.mark.parametrize(("w", "k"), [(1.0, 0.0), (2.5, 0.0), (2.5, 0.92), (0.5, 0.5)])
@pytest.mark.parametrize("y", [0, NULL])
def test_proof_18_meanflow_rests_at_the_exact_average_of_the_guided_flow(y, w, k, condition, noise):
    network, mean = Exact(noise, w), OF_CLASS if y == 0 else OF_NULL
    loss = {"name": "meanflow", "guidance": w, "guidance_mix": k}
    found, weights = losses_at_nodes(network, loss, noise, y, mean, condition)
    t, r = torch.tensor(TIMES, dtype=torch.float64).T
    # The null class and the target of guidance scale the sample's own velocity.
    scale = (1 - k) * w if y == 0 else 1.0
    floor = scale**2 * variance(r, noise) / variance(t, noise) * (noise * STD) ** 2 / variance(t, noise)
    torch.testing.assert_close(found["loss"] @ weights, floor, **EXACT)
    assert_rests(network, found["loss"] @ weights)


@pytest.mark.parametrize("noise", [1.0, 2.0])
@pytest.mark.parametrize("y", [0, NULL])
def test_proof_18_imf_rests_at_the_exact_average_and_velocity_of_the_flow_guided_in_an_interval(y, noise):
    network, mean = ExactImf(noise), OF_CLASS if y == 0 else OF_NULL
    further = (0.6, 0.375, 0.25)  # a scale of 8^0.6 in [0.1875, 0.625]
    found, weights = losses_at_nodes(network, {"name": "imf"}, noise, y, mean, further=further)
    t, _ = torch.tensor(TIMES, dtype=torch.float64).T
    floor = (noise * STD) ** 2 / variance(t, noise)
    for name in ("mse", "mse_velocity"):
        torch.testing.assert_close(found[name] @ weights, floor, **EXACT)
    assert_rests(network, found["loss"] @ weights)


def test_proof_18_a_wrong_average_does_not_rest():
    """The average of the unguided flow, where guidance is trained in."""
    network = Exact(guidance=1.0)
    found, weights = losses_at_nodes(network, {"name": "meanflow", "guidance": 2.5}, 1.0, 0, OF_CLASS)
    for one in found["loss"] @ weights:
        (slope,) = torch.autograd.grad(one, network.change, retain_graph=True)
        assert slope.abs().max() > 1e-2
