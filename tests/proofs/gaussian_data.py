"""The optimal network for data N(m, s^2), in closed form, for any schedule.

x_t = alpha x_0 + sigma eps is Gaussian with mean alpha m and variance V = alpha^2 s^2 + sigma^2, jointly with x_0 and
eps, whose covariances with x_t are alpha s^2 and sigma. The regression line of jointly Gaussian variables is

    E[x_0 | x_t] = m + alpha s^2 / V (x_t - alpha m),     E[eps | x_t] = sigma / V (x_t - alpha m),

and any output o = a x_0 + b eps has the conditional mean a E[x_0 | x_t] + b E[eps | x_t]. For the velocity, with
a = alpha' and b = sigma', that is

    v = alpha' m + (alpha alpha' s^2 + sigma sigma') / V (x_t - alpha m) = alpha' m + V' / (2 V) (x_t - alpha m);

on the straight path alpha = 1 - t, sigma = t it reads (t - (1 - t) s^2) / V (x_t - (1 - t) m) - m. What is left over is
Var[x_0 | x_t] = s^2 sigma^2 / V, and since alpha (x_0 - E x_0) = -sigma (eps - E eps), the output o is missed by
(a - b alpha / sigma) (x_0 - E x_0), whose variance, the floor of the square error, is (a sigma - b alpha)^2 s^2 / V.
"""

from dataclasses import dataclass

import numpy as np
import torch

from dit.diffusion.config import EdmConfig, FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.diffusion.process import Denoised, Process
from dit.sampling.grid import Grid
from dit.sampling.sampler import integrate
from tests.proofs.reference import Path, derivative

SIGMA_DATA, SIGMA_MAX = 0.5, 80.0
"""Of EDM."""


def process_of(name: str, **options) -> Process:
    """Return a process with the schedule that PATHS calls `name`, with a prediction that has no trouble at t=1."""
    if name.startswith("discrete_"):
        return create_process(GaussianConfig(betas=name.removeprefix("discrete_"), **{"learn_sigma": False} | options))
    if name == "edm":
        return create_process(EdmConfig(sigma_data=SIGMA_DATA, sigma_max=SIGMA_MAX, **options))
    if name == "linear_noise_2":
        name, options = "linear", {"noise_scale": 2.0} | options
    prediction = "velocity" if name in ("linear", "gvp") else "v"
    return create_process(FlowConfig(**{"schedule": name, "prediction": prediction} | options))


def prediction_of(process: Process) -> str:
    """Return the name of what the networks of a process return."""
    if isinstance(process.config, FlowConfig):
        return process.config.prediction
    return "preconditioned" if isinstance(process.config, EdmConfig) else "eps"


def time_of(process: Process, model_time):
    """Return the t of which a network of a flow or of a discrete process was told."""
    config = process.config
    if isinstance(config, GaussianConfig):
        return (model_time.double() - config.first_step + 1) / config.num_steps
    return (model_time.double() - config.time_offset) / config.time_scale


@dataclass(frozen=True)
class GaussianData:
    """Data N(mean, std^2), the same in every dimension, seen along a path."""

    path: Path
    mean: float = 0.0
    std: float = 1.0

    def data_and_noise(self, x, t):
        """Return E[x_0 | x_t] and E[eps | x_t] for t a number or a tensor that broadcasts with x."""
        alpha, sigma = like(self.path.alpha(np.asarray(t)), x), like(self.path.sigma(np.asarray(t)), x)
        scaled = (x - alpha * self.mean) / like(self.path.variance(np.asarray(t), self.std), x)
        return self.mean + alpha * self.std**2 * scaled, sigma * scaled

    def denoise(self, x, t) -> Denoised:
        """Be the `denoise` of a solver."""
        return Denoised(*self.data_and_noise(x, float(t)))

    def velocity(self, x, t: float):
        """Return v by its closed form, which uses V' alone."""
        deviation = x - self.path.alpha(t) * self.mean
        return derivative(self.path.alpha, t) * self.mean + self.path.rate(t, self.std) * deviation

    def flow(self, x, start: float, end: float):
        """Carry x along the probability flow exactly: (x - alpha m) / sqrt(V) does not change."""
        ratio = np.sqrt(self.path.variance(end, self.std) / self.path.variance(start, self.std))
        return self.path.alpha(end) * self.mean + ratio * (x - self.path.alpha(start) * self.mean)

    def output(self, prediction: str, x, t):
        """Return what the optimal network of a prediction returns at x (B, ...) and t (B,) or a number."""
        t = np.asarray(t)
        t = t.reshape(-1, *[1] * (x.dim() - 1)) if t.ndim else t
        x_0, eps = self.data_and_noise(x, t)
        a, b = coefficients(self.path, prediction, t)
        return like(a, x) * x_0 + like(b, x) * eps

    def network(self, process: Process):
        """Be a network `model(x, t, y)` of a process, for times that float32 holds exactly (see `exact_times`)."""

        def model(x, model_time, y):
            return process.output_sign * self.output(prediction_of(process), x, time_of(process, model_time).numpy())

        return self._edm_network if isinstance(process.config, EdmConfig) else model

    def _edm_network(self, x, model_time, y):
        """Return F(c_in x_t, ln(sigma) / 4) at x = c_in x_t."""
        t = np.exp(4 * model_time.double().numpy()) / SIGMA_MAX
        near = np.round(256 * t) / 256
        t = np.where(np.abs(t - near) < 1e-6, near, t)  # float32 blurs even the logarithms of exact times
        root = np.hypot(SIGMA_MAX * t, SIGMA_DATA).reshape(-1, *[1] * (x.dim() - 1))  # 1 / c_in
        return self.output("preconditioned", like(root, x) * x, t)


def coefficients(path: Path, prediction: str, t):
    """Return (a, b) of the output a x_0 + b eps."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    if prediction == "preconditioned":  # F in x_0 = c_skip x_t + c_out F, for alpha = 1
        root = np.hypot(sigma, SIGMA_DATA)
        c_skip, c_out = SIGMA_DATA**2 / root**2, sigma * SIGMA_DATA / root
        return (1 - c_skip) / c_out, -c_skip * sigma / c_out
    ones, zeros = np.ones_like(alpha), np.zeros_like(alpha)
    if prediction == "velocity":
        return derivative(path.alpha, t), derivative(path.sigma, t)
    if prediction == "score":
        return zeros, -1 / sigma
    return {"x0": (ones, zeros), "eps": (zeros, ones), "v": (-sigma, alpha)}[prediction]


def like(values, x):
    """Return numpy values as a tensor of x's type, or unchanged for numpy x."""
    return torch.as_tensor(np.asarray(values)).to(x) if isinstance(x, torch.Tensor) else values


def at_nodes(num: int):
    """Return x_0 and noise (9 num, 1, 1, 1) of `num` times at the 3 x 3 Gauss-Hermite nodes, and the weights (9,).

    The 3-point rule for N(0, 1) is exact for polynomials of degree 5.
    """
    nodes = torch.tensor([-(3**0.5), 0.0, 3**0.5], dtype=torch.float64)
    weights = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    x_0, noise = (values.repeat(num).reshape(-1, 1, 1, 1) for values in torch.cartesian_prod(nodes, nodes).T)
    return x_0, noise, (weights[:, None] * weights).flatten()


def assert_close(actual, expected, tolerance=1e-12):
    """Compare with numbers or a tensor, which may be broadcast, both relatively and absolutely."""
    actual = torch.as_tensor(actual)
    expected = torch.as_tensor(np.asarray(expected)).to(actual).expand_as(actual)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def exact_times(num: int):
    """Return the times k / num, for num a power of two up to 256: 1000 t is then a float32 number."""
    return np.arange(1, num) / num


def state(*values: float):
    """Return a batch of states of one dimension each: (B, 1, 1, 1) float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def solve(solver, grid: Grid, denoise, x, noise=None):
    """Take x along the whole grid; noise (N, B, 1, 1, 1) is of the steps, zero by default."""
    return integrate(solver, grid, denoise, x, (lambda k: torch.zeros_like(x)) if noise is None else noise.__getitem__)


def transfer(solver, grid: Grid, denoise):
    """Return the coefficients of every state of a linear sampler on the start state and on the noise of each step.

    One run of a batch of N + 1 unit vectors: row k of the result (N + 1, N + 1) belongs to the state at t_k, its first
    entry to the start state and entry j + 1 to the noise of step j. For independent unit normals the variance of the
    state is the sum of the squares of its row.
    """
    num = grid.num_steps
    unit = torch.eye(num + 1, dtype=torch.float64).reshape(num + 1, num + 1, 1, 1, 1)
    states = []
    end = integrate(solver, grid, denoise, unit[0], lambda k: unit[k + 1], lambda k, t, x, x_0: states.append(x))
    return torch.stack([*states, end]).flatten(1)
