"""What the losses of average velocities draw, weigh and leave out; proof 18 is about what they teach."""

import math

import pytest
import torch

from dit.diffusion.config import AverageVelocityConfig, ImfLoss, MeanFlowLoss, UniformTime
from dit.diffusion.create import create_process
from dit.diffusion.improved_mean_flow import power_law
from dit.diffusion.mean_flow import adaptive, draw_times
from dit.diffusion.timesteps import UniformLaw

NULL = 3


def uniforms(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def process_of(loss, **options):
    return create_process(AverageVelocityConfig(loss=loss, time_law=UniformTime(), **options), null_class=NULL)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_times_are_the_larger_and_the_smaller_of_two_draws_or_equal(share):
    t, r = draw_times(UniformLaw(), uniforms(20_000, 3), share)
    equal = t == r
    assert equal.double().mean().item() == pytest.approx(share, abs=4 * math.sqrt(0.25 / 20_000))
    assert (r <= t).all()
    # Of two uniform numbers the larger has mean 2/3 and the smaller 1/3, each with variance 1/18.
    assert t.mean().item() == pytest.approx(2 / 3, abs=4 * math.sqrt(1 / 18 / 20_000))
    if share < 1:
        assert r[~equal].mean().item() == pytest.approx(1 / 3, abs=4 * math.sqrt(1 / 18 / (20_000 * (1 - share))))


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_scales_have_the_density_of_a_power(power):
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    w = power_law(u, 8.0, power)
    integral = w.log() if power == 1 else (w ** (1 - power) - 1) / (1 - power)  # of w^-power from 1
    torch.testing.assert_close(integral / integral[-1], u, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(w[[0, -1]], torch.tensor([1.0, 8.0], dtype=torch.float64))


def test_intervals_of_guidance_hold_the_middle_and_are_whole_at_equal_times():
    process = process_of(ImfLoss(), condition="h")
    told = process.draw_guidance(uniforms(1000, 3), torch.arange(1000) % 2 == 0)
    assert (told["t_min"][::2] == 0).all()
    assert (told["t_max"][::2] == 1).all()
    low, high = told["t_min"][1::2], told["t_max"][1::2]
    assert 0 <= low.min() < 0.01 < 0.49 < low.max() < 0.5
    assert 0.5 <= high.min() < 0.51 < 0.99 < high.max() < 1


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_adaptive_weight_has_no_gradient(power):
    mse = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    loss = adaptive(mse, 10, MeanFlowLoss(weight_power=power, weight_offset=1.0))
    weight = torch.tensor([6.0, 21.0], dtype=torch.float64) ** -power
    torch.testing.assert_close(loss, weight * torch.tensor([5.0, 20.0], dtype=torch.float64))
    (slope,) = torch.autograd.grad(loss.sum(), mse)
    torch.testing.assert_close(slope, 10 * weight)


def test_guidance_leaves_out_the_null_class_and_times_off_its_interval_whose_ends_it_holds():
    process = process_of(MeanFlowLoss(guidance=2.0, guidance_interval=(0.3, 0.8)))
    t = torch.tensor([0.8, 0.3, 0.5, 0.8001, 0.2999])  # float32 0.8 is above 0.8
    y, x, velocity = torch.tensor([0, 1, NULL, 0, 1]), torch.zeros(5, 1, 2, 2), torch.ones(5, 1, 2, 2)

    def model(x, t, y, r):
        assert (y == NULL).all()
        assert torch.equal(t, r)
        return torch.full_like(x, 0.25)

    found = process.guided(model, x, t.double(), y, velocity)[:, 0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([1.75, 1.75, 1.0, 1.0, 1.0]))  # 2 v - 0.25


def test_the_derivative_is_asked_for_where_times_differ():
    process, sizes = process_of(MeanFlowLoss(equal_share=0.5)), []

    def model(x, t, y, r):
        sizes.append(len(x))
        return x * t[:, None, None, None]

    x, y = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(6).long()
    u = uniforms(6, 3)
    u[:, 2] = torch.tensor([0.1, 0.9, 0.2, 0.9, 0.9, 0.3])
    process.losses(model, x, y, noise=x.flip(0), u=u)
    assert sizes == [3, 6]
    u[:, 2] = 0
    process.losses(model, x, y, noise=x.flip(0), u=u)
    assert sizes == [3, 6, 6]


def test_velocities_of_a_network_that_predicts_images_are_floored():
    """(x_t - x_0) / max(t, floor), as its network divides; a scale of 1 leaves them as they are."""
    loss = ImfLoss(velocity_floor=0.05, largest_guidance=1.0, equal_share=1.0, weight_power=0.0)
    process = process_of(loss, condition="h")
    x, y, u = torch.randn(3, 1, 2, 2, dtype=torch.float64), torch.zeros(3).long(), uniforms(3, 6)
    u[:, :2] = torch.tensor([0.01, 0.04, 0.5])[:, None]

    def model(x, t, y, *, heads, **told):
        return torch.zeros_like(x).repeat(1, len(heads), 1, 1)

    found = process.losses(model, x, y, noise=x.flip(0), u=u)
    t = u[:, 0]
    velocity = (process.corrupt(x, x.flip(0), t) - x) / t.clamp(min=0.05)[:, None, None, None]
    torch.testing.assert_close(found.terms["mse_velocity"], velocity.square().mean((1, 2, 3)))
    torch.testing.assert_close(found.loss, 2 * 4 * velocity.square().mean((1, 2, 3)))


@pytest.mark.parametrize("condition", ["r", "h"])
def test_a_flows_own_map_of_time_is_kept(condition):
    config = AverageVelocityConfig(condition=condition, time_scale=-1000.0, time_offset=1000.0, output_sign=-1)
    process, t, r = create_process(config), torch.tensor([0.75, 0.5]).double(), torch.tensor([0.25, 0.5]).double()
    assert process.model_time(t).tolist() == [250.0, 500.0]
    assert process.conditions(t, r)[condition].tolist() == ([750.0, 500.0] if condition == "r" else [-500.0, 0.0])
    assert process.split(torch.ones(1))[0] == -1
