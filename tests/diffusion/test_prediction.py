import pytest
import torch

from dit.diffusion.schedule import DiscreteSchedule, LinearSchedule, cosine_betas, linear_betas

SCHEDULES = {
    "linear": LinearSchedule(),
    "discrete_linear": DiscreteSchedule(linear_betas()),
    "discrete_cosine": DiscreteSchedule(cosine_betas()),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_derivatives_are_those_of_alpha_and_sigma(schedule):
    t = torch.linspace(0.03137, 0.94871, 29, dtype=torch.float64).requires_grad_()  # none of the steps
    for function, derivative in ((schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)):
        (expected,) = torch.autograd.grad(function(t).sum(), t)
        torch.testing.assert_close(derivative(t.detach()), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("betas", [linear_betas(), cosine_betas()], ids=["linear", "cosine"])
def test_discrete_schedules_hold_the_table_at_the_steps_and_data_at_zero(betas):
    schedule = DiscreteSchedule(betas)
    t = schedule.time_of_step(torch.arange(1000))
    expected = torch.cumprod(1 - betas, 0)
    torch.testing.assert_close(schedule.alpha(t) ** 2, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - expected, rtol=1e-11, atol=0)
    zero = torch.zeros((), dtype=torch.float64)
    assert schedule.alpha(zero) == 1
    assert schedule.sigma(zero) == 0


def test_discrete_schedules_are_monotonic_between_the_steps():
    schedule = DiscreteSchedule(linear_betas())
    log_snr = schedule.log_snr(torch.linspace(0.0005, 1, 5000, dtype=torch.float64))
    assert (log_snr.diff() < 0).all()
