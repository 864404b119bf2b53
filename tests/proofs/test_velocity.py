"""Proofs 1 and 14: the optimal velocity, and conversions between predictions."""

import numpy as np
import pytest
import torch

from dit.diffusion import prediction
from dit.diffusion.process import Denoised
from dit.sampling.solvers.ode import velocity
from tests.proofs.gaussian_data import (
    SIGMA_DATA,
    GaussianData,
    assert_close,
    coefficients,
    exact_times,
    like,
    process_of,
    state,
)
from tests.proofs.reference import PATHS, derivative

PREDICTIONS = prediction.PREDICTIONS | {"preconditioned": prediction.PreconditionedPrediction(SIGMA_DATA)}
T = np.linspace(0.02, 0.98, 49)
X = state(-1.7, 0.0, 0.4, 2.3)
DATA = {"mean": 0.6, "std": 0.7}
# At t = 1e-6 and 1e-3, in 40 digits by mpmath.
EARLY_SIGMA = {
    "linear": [1e-6, 1e-3],
    "linear_noise_2": [2e-6, 2e-3],
    "edm": [8e-5, 8e-2],
    "gvp": [1.5707963267942506e-6, 0.0015707956808308788],
    "vp_linear": [0.00031624349005000105, 0.010485416335094896],
    "vp_cosine": [0.00019712611125517109, 0.0064252801356655107],
}


@pytest.mark.parametrize("name", PATHS)
def test_proof_01_schedules_are_the_textbooks(name):
    schedule, t = process_of(name).schedule, torch.tensor(T)
    assert_close(schedule.alpha(t), PATHS[name].alpha(T))
    assert_close(schedule.sigma(t), PATHS[name].sigma(T))
    assert_close(schedule.d_alpha(t), derivative(PATHS[name].alpha, T))
    assert_close(schedule.d_sigma(t), derivative(PATHS[name].sigma, T))
    zero = torch.zeros((), dtype=torch.float64)
    assert (schedule.alpha(zero), schedule.sigma(zero), schedule.log_snr(zero)) == (1, 0, torch.inf)
    assert 1 / schedule.sigma(zero) == torch.inf  # and not -0
    early = np.array([1e-6, 1e-3])  # between the first steps a table's author may interpolate otherwise
    if not name.startswith("discrete"):
        assert_close(schedule.sigma(torch.tensor(early)), EARLY_SIGMA[name])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", PATHS)
def test_proof_01_optimal_velocity(name, prediction):
    """Every prediction, returned by the optimal network, is read as the velocity that follows from V alone."""
    data, process = GaussianData(PATHS[name], **DATA), process_of(name)
    for t in T:
        time = torch.tensor(t)
        output = data.output(prediction, X, t)
        denoised = Denoised(*PREDICTIONS[prediction].to_data_and_noise(process.schedule, time, X, output))
        assert_close(velocity(denoised, process.schedule, time), data.velocity(X, t))


def test_proof_01_optimal_velocity_on_the_straight_path():
    """The formula as it is usually written: (t - (1 - t) s^2) / V (x - (1 - t) m) - m."""
    data, m, s = GaussianData(PATHS["linear"], **DATA), *DATA.values()
    for t in T:
        slope = (t - (1 - t) * s**2) / ((1 - t) ** 2 * s**2 + t**2)
        assert_close(data.velocity(X, t), slope * (X - (1 - t) * m) - m)


@pytest.mark.parametrize("name", PATHS)
def test_proof_01_velocity_is_the_slope_of_the_exact_flow(name):
    data = GaussianData(PATHS[name], **DATA)
    for t in T[1:-1]:
        numbers = X.flatten().numpy()
        slope = (data.flow(numbers, t, t + 1e-6) - data.flow(numbers, t, t - 1e-6)) / 2e-6
        np.testing.assert_allclose(slope, data.velocity(numbers, t), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("to", PREDICTIONS)
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_proof_14_conversions_round_trip(name, to, dtype, tolerance):
    """x_0, eps -> output -> x_0, eps, for times away from alpha = 0 and sigma = 0."""
    schedule = process_of(name).schedule
    t = torch.tensor(T[(PATHS[name].alpha(T) > 0.1) & (PATHS[name].sigma(T) > 0.1)])
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(len(t), 3, 4, generator=generator, dtype=dtype) for _ in range(2))
    alpha, sigma = (like(f(t.numpy()), x_0).reshape(-1, 1, 1) for f in (PATHS[name].alpha, PATHS[name].sigma))
    output = PREDICTIONS[to].from_data_and_noise(schedule, t, x_0, eps)
    found = PREDICTIONS[to].to_data_and_noise(schedule, t, alpha * x_0 + sigma * eps, output)
    for actual, expected in zip(found, (x_0, eps), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", PATHS)
def test_proof_14_outputs_are_what_their_names_say(name, prediction):
    schedule, t = process_of(name).schedule, torch.tensor(T)
    x_0, eps = torch.linspace(-1, 1, len(T), dtype=torch.float64), torch.linspace(2, -1, len(T), dtype=torch.float64)
    a, b = coefficients(PATHS[name], prediction, T)
    output = PREDICTIONS[prediction].from_data_and_noise(schedule, t, x_0, eps)
    assert_close(output, a * x_0.numpy() + b * eps.numpy())


@pytest.mark.parametrize("name", PATHS)
def test_proof_14_a_network_is_read_at_the_time_that_it_is_told(name):
    """The embedded time, the sign and the reading of the output fit together in the process of every schedule."""
    process = process_of(name, output_sign=-1, time_scale=-1.0, time_offset=1.0) if name == "gvp" else process_of(name)
    data = GaussianData(PATHS[name], **DATA)
    discrete = name.startswith("discrete")
    times = torch.tensor((np.arange(1000) + 1) / 1000 if discrete else exact_times(128))[::7]
    x = torch.linspace(-2, 2, len(times), dtype=torch.float64).reshape(-1, 1, 1, 1)
    output = data.network(process)(process.model_input(x, times), process.model_time(times), None)
    denoised = process.denoise(output, x, times)
    for k, t in enumerate(times.tolist()):
        x_0, eps = data.data_and_noise(x[k], t)
        alpha, sigma = PATHS[name].alpha(t), PATHS[name].sigma(t)
        assert_close(alpha * denoised.x_0[k], alpha * x_0)  # dividing by alpha amplifies rounding near t=1
        assert_close(sigma * denoised.eps[k], sigma * eps)
