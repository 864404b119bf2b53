"""Proofs 2 to 6: solvers on Gaussian data, where every step is a number that can be worked out by hand."""

import numpy as np
import pytest
import torch

from dit.config import load_recipe
from dit.diffusion.schedule import DiscreteSchedule
from dit.sampling.config import SamplingConfig, from_first_format
from dit.sampling.grid import create_grid, grid_of_times, log_snr_times
from dit.sampling.solvers.step import create_solver
from dit.zoo.entries import entries
from tests.proofs.gaussian_data import GaussianData, assert_close, process_of, solve, state, transfer
from tests.proofs.reference import PATHS, STRAIGHT, VARIANCE_PRESERVING

N = 16
GRIDS = ["uniform", "quadratic", "shifted", "log_snr", "karras", "list", "respaced", "respaced_ddim"]
CASES = [(name, grid) for name in PATHS for grid in GRIDS if name.startswith("discrete") or "respaced" not in grid]


def settings(solver="euler", grid="uniform", steps=N, **options) -> SamplingConfig:
    if grid == "list":
        options = {"times": list(np.linspace(0.98, 0.03, steps))} | options
    if grid in ("log_snr", "karras"):
        options |= {"t_start": 0.97, "t_end": 0.02}
    return SamplingConfig(**from_first_format({"solver": solver, "grid": grid, "steps": steps} | options))


def times_of(name: str, grid: str, steps: int = N) -> np.ndarray:
    """Return the times t_0 .. t_N of a grid by its definition."""
    k = np.arange(steps)
    if grid == "respaced":
        kept = [round(i * 999 / (steps - 1)) for i in k]
        return np.array([*((i + 1) / 1000 for i in reversed(kept)), 0])
    if grid == "respaced_ddim":
        stride = next(s for s in range(1, 1000) if len(range(0, 1000, s)) == steps)
        return np.array([*((i + 1) / 1000 for i in reversed(range(0, 1000, stride))), 0])
    if grid in ("log_snr", "karras"):
        first, last = PATHS[name].half_log_snr(np.array([0.97, 0.02]))
        if grid == "log_snr":
            wanted = first + (last - first) * k / (steps - 1)
        else:
            ends = np.exp(-first) ** (1 / 7), np.exp(-last) ** (1 / 7)
            wanted = -7 * np.log(ends[0] + (ends[1] - ends[0]) * k / (steps - 1))
        return np.array([*(_time_of_half_log_snr(PATHS[name], value) for value in wanted), 0])
    if grid == "list":
        return np.array([*np.linspace(0.98, 0.03, steps), 0])
    u = 1 - k / steps
    return np.array([*{"uniform": u, "quadratic": u**2, "shifted": 3 * u / (1 + 2 * u)}[grid], 0])


def _time_of_half_log_snr(path, wanted):
    from scipy.optimize import brentq

    return brentq(lambda t: path.half_log_snr(np.float64(t)) - wanted, 1e-4, 1 - 1e-9, xtol=1e-15, rtol=1e-15)


@pytest.mark.parametrize(("name", "grid"), CASES)
def test_proof_02_euler_is_a_product_over_the_grid(name, grid):
    """x_1 prod(1 - h a_k): a grid that is off by one anywhere gives another product."""
    data, process, sampling = GaussianData(PATHS[name], std=0.5), process_of(name), settings("euler", grid)
    times = times_of(name, grid)
    expected = np.prod(1 + np.diff(times) * PATHS[name].rate(times[:-1], 0.5))
    actual = solve(create_solver(sampling.solver), create_grid(process, sampling), data.denoise, state(1.0, -2.0))
    assert_close(actual.flatten(), np.array([1, -2]) * expected)


@pytest.mark.parametrize(("name", "grid"), CASES)
def test_proof_02_heun_is_a_product_over_the_grid(name, grid):
    """1 - h (a_k + a_{k+1}) / 2 + h^2 a_k a_{k+1} / 2; where sigma' is infinite at t=0 the last step goes to x_0."""
    path, process, sampling = PATHS[name], process_of(name), settings("heun", grid)
    times = times_of(name, grid)
    h, a = np.diff(times), path.rate(times, 0.5)
    factors = 1 + h * (a[:-1] + a[1:]) / 2 + h**2 * a[:-1] * a[1:] / 2
    if name not in ("linear", "linear_noise_2", "gvp"):
        factors[-1] = path.alpha(times[-2]) * 0.25 / path.variance(times[-2], 0.5)
    data = GaussianData(path, std=0.5)
    actual = solve(create_solver(sampling.solver), create_grid(process, sampling), data.denoise, state(1.0))
    assert_close(actual.flatten(), np.prod(factors))


@pytest.mark.parametrize(("name", "grid"), CASES)
def test_proof_02_midpoint_is_a_product_over_the_grid(name, grid):
    times = times_of(name, grid)
    h, a = np.diff(times), PATHS[name].rate(times, 0.5)
    middle = PATHS[name].rate((times[:-1] + times[1:]) / 2, 0.5)
    data, process, sampling = GaussianData(PATHS[name], std=0.5), process_of(name), settings("midpoint", grid)
    actual = solve(create_solver(sampling.solver), create_grid(process, sampling), data.denoise, state(1.0))
    assert_close(actual.flatten(), np.prod(1 + h * middle * (1 + h / 2 * a[:-1])))


@pytest.mark.parametrize(("name", "grid"), CASES)
def test_proof_02_ddim_is_a_product_over_the_grid(name, grid):
    """One step multiplies by (alpha_s alpha s^2 + sigma_s sigma) / V: the predicted data and noise, mixed for s."""
    path, times = PATHS[name], times_of(name, grid)
    alpha, sigma = path.alpha(times), path.sigma(times)
    factors = (alpha[1:] * alpha[:-1] * 0.25 + sigma[1:] * sigma[:-1]) / path.variance(times[:-1], 0.5)
    data, process, sampling = GaussianData(path, std=0.5), process_of(name), settings("ddim", grid)
    actual = solve(create_solver(sampling.solver), create_grid(process, sampling), data.denoise, state(1.0))
    assert_close(actual.flatten(), np.prod(factors))


@pytest.mark.parametrize(("name", "grid"), CASES)
def test_proof_02_dpmpp_2m_is_a_linear_recurrence(name, grid):
    """x' = (sigma'/sigma) x - alpha' (e^-h - 1) (d + (d - d_before) h / (2 h_before)), d = alpha s^2 / V x."""
    path, times = PATHS[name], times_of(name, grid)
    with np.errstate(divide="ignore"):
        half = path.half_log_snr(times)
    half[0] = -np.inf if path.alpha(times[0]) < 1e-15 else half[0]  # cos(pi / 2) is not quite 0
    alpha, sigma = path.alpha(times), path.sigma(times)
    x, before = 1.0, None
    for k in range(N):
        h = half[k + 1] - half[k]
        d = alpha[k] * 0.25 / path.variance(times[k], 0.5) * x
        extrapolated = d if before is None or k == N - 1 else d + (d - before) * h / (2 * (half[k] - half[k - 1]))
        x, before = sigma[k + 1] / sigma[k] * x - alpha[k + 1] * np.expm1(-h) * extrapolated, d
    data, process, sampling = GaussianData(path, std=0.5), process_of(name), settings("dpmpp_2m", grid)
    actual = solve(create_solver(sampling.solver), create_grid(process, sampling), data.denoise, state(1.0))
    assert_close(actual.flatten(), x)


@pytest.mark.parametrize("diffusion", ["sigma", "forward", "constant"])
@pytest.mark.parametrize("name", PATHS)
def test_proof_02_euler_maruyama_is_affine_in_state_and_noise(name, diffusion):
    """x' = (1 + h (a + w / (2 V))) x + sqrt(w |h|) z, for the score of N(0, V) is -x / V; the last step draws none."""
    path, times = PATHS[name], times_of(name, "log_snr")
    w = 0.8 * {"sigma": path.sigma, "forward": path.forward_noise, "constant": np.ones_like}[diffusion](times[:-1])
    h = np.diff(times)
    factors = 1 + h * (path.rate(times[:-1], 0.5) + w / (2 * path.variance(times[:-1], 0.5)))
    noises = np.sqrt(w * np.abs(h))
    expected = np.zeros((N + 1, N + 1))
    expected[0, 0] = 1
    for k in range(N):
        expected[k + 1] = factors[k] * expected[k]
        expected[k + 1, k + 1] = noises[k] if k < N - 1 else 0
    sampling = settings("euler_maruyama", "log_snr", diffusion=diffusion, diffusion_scale=0.8)
    data, grid = GaussianData(path, std=0.5), create_grid(process_of(name), sampling)
    assert_close(transfer(create_solver(sampling.solver), grid, data.denoise), expected)


@pytest.mark.parametrize("name", ["recipe", "dit_xl_2.in256_flow", "dit_xl_2.in512_flow"])
def test_proof_02_what_names_sits_sampler_samples_by_its_sde(name):
    """SiT's own rules, by hand, with data N(0, s^2): from t=1 to 0.04 by steps of (1 - 0.04) / 249, then to 0.

    In its time, data at 1: x' = x + (v + d score) h + sqrt(2 d h) z with diffusion d = sigma; the last without noise.
    """
    recipe = load_recipe("dit_xl_2_imagenet256_flow").sampling
    path, sampling = PATHS["linear"], recipe if name == "recipe" else entries()[name].published
    num, s = sampling.steps, 0.5
    assert num == 250
    row, t = np.zeros(num + 1), 1.0
    row[0] = 1
    for k in range(num):
        last = k == num - 1
        h = 0.04 if last else 0.96 / (num - 1)
        score = -1 / ((1 - t) ** 2 * s**2 + t**2)
        row *= 1 + h * (-path.rate(t, s) + t * score)
        row[k + 1] = 0 if last else np.sqrt(2 * t * h)
        t -= h
    data, grid = GaussianData(path, std=s), create_grid(process_of("linear"), sampling)
    assert_close(transfer(create_solver(sampling.solver), grid, data.denoise)[-1], row)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("name", PATHS)
def test_proof_02_ddim_with_noise_is_affine_in_state_and_noise(name, eta):
    """x' = (alpha' alpha s^2 + sqrt(sigma'^2 - d^2) sigma) / V x + d z, with d = eta (sigma' / sigma) sqrt(beta)."""
    path, times = PATHS[name], times_of(name, "uniform")
    alpha, sigma = path.alpha(times), path.sigma(times)
    ratio = alpha[:-1] / alpha[1:]
    deviation = eta * sigma[1:] / sigma[:-1] * np.sqrt(sigma[:-1] ** 2 - ratio**2 * sigma[1:] ** 2)
    kept = np.sqrt(sigma[1:] ** 2 - deviation**2)
    factors = (alpha[1:] * alpha[:-1] * 0.25 + kept * sigma[:-1]) / path.variance(times[:-1], 0.5)
    expected = np.zeros((N + 1, N + 1))
    expected[0, 0] = 1
    for k in range(N):
        expected[k + 1] = factors[k] * expected[k]
        expected[k + 1, k + 1] = deviation[k]
    sampling = settings("ddim", eta=eta)
    data, grid = GaussianData(path, std=0.5), create_grid(process_of(name), sampling)
    assert_close(transfer(create_solver(sampling.solver), grid, data.denoise), expected)


@pytest.mark.parametrize(("name", "grid"), [case for case in CASES if case[0] in VARIANCE_PRESERVING])
def test_proof_03_ddim_turns_by_the_angle_between_the_times(name, grid):
    """With s = 1 and m = 0, x_0 = cos(phi) x and eps = sin(phi) x, so a step multiplies by cos(phi_t - phi_s)."""
    times = times_of(name, grid)
    phi = np.arctan2(PATHS[name].sigma(times), PATHS[name].alpha(times))
    sampling = settings("ddim", grid)
    grid_of_process = create_grid(process_of(name), sampling)
    states = transfer(create_solver(sampling.solver), grid_of_process, GaussianData(PATHS[name]).denoise)[:, 0]
    assert_close(states, np.cumprod([1, *np.cos(np.diff(phi))]))


@pytest.mark.parametrize(("name", "grid"), [case for case in CASES if case[0] in VARIANCE_PRESERVING])
def test_proof_04_ddpm_keeps_the_variance_of_unit_data(name, grid):
    """With s = 1 and variance `upper` every state has variance 1, but the last step draws no noise: 1 - beta_0."""
    sampling = settings("ddpm", grid, variance="upper")
    rows = transfer(
        create_solver(sampling.solver), create_grid(process_of(name), sampling), GaussianData(PATHS[name]).denoise
    )
    variances = rows.square().sum(1)
    assert_close(variances[:-1], np.ones(N), 1e-11)
    assert_close(variances[-1], PATHS[name].alpha(times_of(name, grid)[-2]) ** 2, 1e-11)


@pytest.mark.parametrize("steps", [2, 10, 1000])
@pytest.mark.parametrize("betas", ["linear", "cosine", "scaled_linear"])
def test_proof_04_ddpm_on_the_original_steps(betas, steps):
    """The last variance is 1 - beta_0 of the table itself; with all steps kept the respaced table is the original."""
    name = f"discrete_{betas}"
    sampling = settings("ddpm", "respaced", steps=steps, variance="upper")
    process = process_of(name)
    rows = transfer(create_solver(sampling.solver), create_grid(process, sampling), GaussianData(PATHS[name]).denoise)
    assert isinstance(process.schedule, DiscreteSchedule)
    assert_close(rows[-1].square().sum(), 1 - process.schedule.betas[0].item(), 1e-11)


STOCHASTIC = [
    {"solver": "ddpm", "variance": "lower"},
    {"solver": "ddim", "eta": 1.0},
    {"solver": "ddim", "eta": 0.4},
    {"solver": "dpmpp_2m_sde"},
]


@pytest.mark.parametrize("sampling", STOCHASTIC, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("name", PATHS)
def test_proof_04_a_point_mass_has_the_forward_marginals_and_ends_in_the_point(name, sampling):
    """The posterior at the true x_0 keeps x_t ~ N(alpha m, sigma^2) at every time: not only the end is right."""
    path, m = PATHS[name], 1.3
    settings_ = settings(**sampling)
    grid, solver = create_grid(process_of(name), settings_), create_solver(settings_.solver)
    rows = transfer(solver, grid, GaussianData(path, mean=0.0, std=0.0).denoise)
    rows[:, 0] *= path.sigma(1.0)  # the forward process's own deviation at t=1
    times = times_of(name, "uniform")
    assert_close(rows.square().sum(1), path.noise_variance(times), 1e-11)
    point = GaussianData(path, mean=m, std=0.0)
    noise = torch.randn(N, 5, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    end = solve(solver, grid, point.denoise, state(-2.0, -1.0, 0.0, 1.0, 5.0), noise)
    assert_close(end, np.full_like(end, m), 1e-11)


@pytest.mark.parametrize("variance", ["lower", "upper"])
def test_proof_04_a_learned_variance_at_its_bounds_is_the_fixed_one(variance):
    from dataclasses import replace

    data, process = GaussianData(PATHS["discrete_linear"]), process_of("discrete_linear")
    value = {"lower": -1.0, "upper": 1.0}[variance]

    def learned(x, t):
        return replace(data.denoise(x, t), variance=torch.full_like(x, value))

    grid = create_grid(process, settings("ddpm", "respaced"))
    rows = transfer(create_solver(settings("ddpm", "respaced", variance="learned").solver), grid, learned)
    expected = transfer(create_solver(settings("ddpm", "respaced", variance=variance).solver), grid, data.denoise)
    assert_close(rows, expected)


EXPONENTIAL = ["ddim", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "ddpm"]


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        *((name, solver) for name in PATHS for solver in EXPONENTIAL),
        *((name, solver) for name in STRAIGHT for solver in ("euler", "midpoint", "euler_maruyama")),
    ],
)
def test_proof_05_a_point_mass_is_reached_in_one_step(name, solver):
    """Exponential integrators are exact for constant predicted data, Euler and midpoint on straight lines."""
    data, x = GaussianData(PATHS[name], mean=1.3, std=0.0), state(-2.0, 0.0, 7.0)
    for start in (1.0, 0.6):
        sampling = settings(solver, "list", steps=1, times=[start], diffusion_scale=0.0)
        end = solve(create_solver(sampling.solver), create_grid(process_of(name), sampling), data.denoise, x)
        assert_close(end, 1.3, 1e-10)


ORDERS = [
    ({"solver": "euler"}, "log_snr", 1, 0.1),
    ({"solver": "ddim"}, "log_snr", 1, 0.1),
    ({"solver": "heun"}, "uniform", 2, 0.15),
    ({"solver": "midpoint"}, "uniform", 2, 0.15),
    ({"solver": "dpmpp_2m"}, "log_snr", 2, 0.2),
    ({"solver": "unipc"}, "log_snr", 3, 0.1),  # the corrector adds one to the predictor's order
]
WEAK_ORDERS = [
    ({"solver": "ddpm", "variance": "upper"}, "log_snr", 1, 0.1),
    ({"solver": "ddpm", "variance": "lower"}, "log_snr", 1, 0.1),
    ({"solver": "ddim", "eta": 0.5}, "log_snr", 1, 0.1),
    ({"solver": "dpmpp_2m_sde"}, "log_snr", 2, 0.2),
    ({"solver": "euler_maruyama"}, "log_snr", 1, 0.15),
    ({"solver": "euler_maruyama", "diffusion": "forward"}, "log_snr", 1, 0.15),
    ({"solver": "euler_maruyama", "diffusion": "constant"}, "uniform", 1, 0.1),
]


def describe(value):
    return "-".join(map(str, value.values())) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("options", "grid", "expected", "tolerance"), ORDERS, ids=describe)
@pytest.mark.parametrize("name", PATHS)
def test_proof_06_order_between_inner_times(name, options, grid, expected, tolerance):
    """Error at the early time of starting at the late one."""
    if name in STRAIGHT and options["solver"] == "midpoint":
        expected = 3  # on the straight path the leading term of Gaussian data's error cancels
    data = GaussianData(PATHS[name], mean=0.4, std=0.5)
    exact = data.flow(1.7, *inner_ends(name))

    def error(num: int) -> float:
        end = solve(create_solver(settings(**options).solver), inner_grid(name, grid, num), data.denoise, state(1.7))
        return abs(end.item() - exact)

    assert abs(order(error) - expected) < tolerance


@pytest.mark.parametrize(("options", "grid", "expected", "tolerance"), WEAK_ORDERS, ids=describe)
@pytest.mark.parametrize("name", PATHS)
def test_proof_06_weak_order_between_inner_times(name, options, grid, expected, tolerance):
    """Error of the variance at the early time, summed over the noises exactly, of starting with V at the late one."""
    path = PATHS[name]
    late, early = inner_ends(name)

    def error(num: int) -> float:
        solver, denoise = create_solver(settings(**options).solver), GaussianData(path, std=0.5).denoise
        row = transfer(solver, inner_grid(name, grid, num), denoise)[-1]
        row[0] *= np.sqrt(path.variance(late, 0.5))
        return abs(row.square().sum().item() - path.variance(early, 0.5))

    assert abs(order(error) - expected) < tolerance


@pytest.mark.parametrize(("solver", "expected"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
@pytest.mark.parametrize("name", ["linear", "linear_noise_2", "gvp"])
def test_proof_06_order_of_the_whole_path(name, solver, expected):
    if name in STRAIGHT and solver == "midpoint":
        expected = 3
    data, process = GaussianData(PATHS[name], std=0.5), process_of(name)
    exact = data.flow(1.7, 1.0, 0.0)

    def error(num: int) -> float:
        sampling = settings(solver, steps=num)
        end = solve(create_solver(sampling.solver), create_grid(process, sampling), data.denoise, state(1.7))
        return abs(end.item() - exact)

    assert abs(order(error) - expected) < 0.15


@pytest.mark.parametrize("name", PATHS)
def test_proof_06_the_adaptive_solver_keeps_its_tolerance(name):
    """A step's error is held to the tolerance times 1 + |x|, and the sum of all accepted ones (6 calls each) to theirs.

    That holds for smooth slopes. A discrete schedule is a spline: a step across a knot costs up to 3e-6 for the cosine,
    whatever the tolerance, and by which of them it goes depends on rounding. There every step ends at the next knot.
    """
    data, process = GaussianData(PATHS[name], mean=0.4, std=0.5), process_of(name)
    times = np.arange(990, 970, -1) / 1000 if name.startswith("discrete") else np.array([0.99, 0.01])
    grid = grid_of_times(process.schedule, process.prediction, torch.tensor(times))
    for tolerance in (1e-6, 1e-8):
        seen = []

        def denoise(x, t, seen=seen):
            seen.append(float(t))
            return data.denoise(x, t)

        end = solve(create_solver(settings("dopri5", tolerance=tolerance).solver), grid, denoise, state(1.7))
        assert abs(end.item() - data.flow(1.7, times[0], times[-1])) < len(seen) / 6 * tolerance
        assert min(seen) > times[-1] - 1e-12  # nothing may be asked beyond the end, where a network knows nothing


def inner_ends(name: str) -> tuple[float, float]:
    """Return a late and an early time; between EDM's the deviation of the noise falls from 4 to 0.08."""
    return (0.05, 0.001) if name == "edm" else (0.99, 0.01)


def inner_grid(name: str, grid: str, num: int):
    process, ends = process_of(name), torch.tensor(inner_ends(name), dtype=torch.float64)
    uniform = torch.linspace(*ends.tolist(), num + 1, dtype=torch.float64)
    times = uniform if grid == "uniform" else log_snr_times(process.schedule, ends, num + 1)
    return grid_of_times(process.schedule, process.prediction, times)


def order(error) -> float:
    """Return minus the slope of log error over log N, between N = 32 and 128."""
    return float(np.log(error(32) / error(128)) / np.log(4))
