import math

import pytest
import torch

from dit.diffusion.config import FlowConfig
from dit.diffusion.create import create_process
from dit.errors import DitError
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from dit.sampling.solvers.adaptive import integrate_adaptively

ZERO, ONE = torch.tensor([0.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(("start", "end"), [(ZERO, ONE), (ONE, ZERO)], ids=["forwards", "backwards"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_time_outside_the_interval_is_asked_for(start, end, dtype):
    """Networks know nothing of times below 0, and schedules have no value there."""
    seen = []

    def slope(t, x):
        seen.append(t)
        return torch.cos(t).to(x) * x

    x = torch.ones(2, 1, 2, 2, dtype=dtype)
    result = integrate_adaptively(slope, x, start, end, tolerance=1e-6)
    change = math.sin(end) - math.sin(start)
    torch.testing.assert_close(result, math.exp(change) * x, rtol=1e-5, atol=0)
    assert min(seen) >= 0
    assert max(seen) <= 1
    assert {t.dtype for t in seen} == {torch.float64}


def test_the_first_guess_stays_in_the_interval_where_nothing_happens_at_the_start():
    seen = []

    def slope(t, x):
        seen.append(float(t))
        return 1e-6 * x

    integrate_adaptively(slope, torch.ones(1), ZERO, 0.1 * ONE, tolerance=1e-3)
    assert max(seen) <= 0.1


def test_several_states_are_solved_together():
    x, total = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    found = integrate_adaptively(lambda t, s: (-s[0], s[0]), (x, total), ZERO, ONE, tolerance=1e-9)
    torch.testing.assert_close(found, (x * math.exp(-1), 1 - x * math.exp(-1)), rtol=1e-8, atol=1e-8)


def test_damaged_weights_stop_the_adaptive_solver_too():
    model, process = (lambda x, t, y: x * torch.nan), create_process(FlowConfig())
    with pytest.raises(DitError, match="not finite"):
        sample(model, process, torch.tensor([0]), (1, 2, 2), sampling=SamplingConfig(solver="dopri5", steps=1))


def test_a_tolerance_out_of_reach_is_an_error_in_one_line():
    """d x / d t = x^2 grows beyond all bounds at t = 1 / x_0."""
    with pytest.raises(DitError, match="expected a larger tolerance"):
        integrate_adaptively(lambda t, x: x * x, 2 * torch.ones(1, dtype=torch.float64), ZERO, ONE, tolerance=1e-6)
