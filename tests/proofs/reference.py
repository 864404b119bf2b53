"""Schedules as a second author would write them: textbook formulas in numpy, derivatives by the complex step.

The proofs compare the package with these, so nothing here is imported from it. alpha(t) and the noise variance
sigma^2(t) take complex t, for the derivative of an analytic f is Im f(t + ih) / h without any cancellation.

For data N(m, s^2) the state x_t = alpha x_0 + sigma eps is N(alpha m, V) with V = alpha^2 s^2 + sigma^2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline

STEP = 1e-30


@dataclass(frozen=True)
class Path:
    """alpha and sigma^2 as analytic functions of time."""

    alpha: Callable
    noise_variance: Callable

    def sigma(self, t):
        return np.sqrt(self.noise_variance(t))

    def variance(self, t, std):
        """V, the variance of x_t for data of deviation `std`."""
        return self.alpha(t) ** 2 * std**2 + self.noise_variance(t)

    def rate(self, t, std):
        """a = V' / (2 V): the factor between x - alpha m and what the probability flow adds to it per unit of time.

        The flow keeps Gaussians Gaussian, so it scales deviations like sqrt(V), and d log sqrt(V) / d t = V' / (2 V).
        """
        return derivative(lambda t: self.variance(t, std), t) / (2 * self.variance(t, std))

    def forward_noise(self, t):
        """g^2 = alpha^2 d (sigma^2 / alpha^2) / d t: variance that the forward process adds per unit of time."""
        return self.alpha(t) ** 2 * derivative(lambda t: self.noise_variance(t) / self.alpha(t) ** 2, t)

    def half_log_snr(self, t):
        return np.log(self.alpha(t)) - np.log(self.noise_variance(t)) / 2


def derivative(function, t):
    return np.imag(function(t + 1j * STEP)) / STEP


def of_abar(log_abar) -> Path:
    """Variance-preserving: alpha^2 = exp(log_abar), sigma^2 = 1 - alpha^2."""
    return Path(lambda t: np.exp(log_abar(t) / 2), lambda t: -np.expm1(log_abar(t)))


def discrete(betas) -> Path:
    """Steps k = 0, 1, ... at t = (k + 1) / N; between them a cubic Hermite spline with central-difference slopes."""
    num = len(betas)
    knots = np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])
    spline = CubicHermiteSpline(np.arange(num + 1) / num, knots, np.gradient(knots) * num)
    slope = spline.derivative()
    # The complex step only ever needs the value and the slope.
    return of_abar(
        lambda t: spline(np.real(t)) + 1j * np.imag(t) * slope(np.real(t)) if np.iscomplexobj(t) else spline(t)
    )


def cosine_abar(t):
    return (np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2


LINEAR_BETAS = np.linspace(1e-4, 0.02, 1000)
SCALED_LINEAR_BETAS = np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 1000) ** 2
_ABAR = cosine_abar(np.arange(1001) / 1000)
COSINE_BETAS = np.minimum(1 - _ABAR[1:] / _ABAR[:-1], 0.999)

PATHS = {
    "linear": Path(lambda t: 1 - t, lambda t: t**2),
    "linear_noise_2": Path(lambda t: 1 - t, lambda t: (2 * t) ** 2),
    "edm": Path(lambda t: 1 + 0 * t, lambda t: (80 * t) ** 2),
    "gvp": Path(lambda t: np.cos(np.pi * t / 2), lambda t: np.sin(np.pi * t / 2) ** 2),
    "vp_linear": of_abar(lambda t: -0.1 * t - 19.9 * t**2 / 2),
    "vp_cosine": of_abar(lambda t: np.log(cosine_abar(t))),
    "discrete_linear": discrete(LINEAR_BETAS),
    "discrete_cosine": discrete(COSINE_BETAS),
    "discrete_scaled_linear": discrete(SCALED_LINEAR_BETAS),
}
STRAIGHT = ["linear", "linear_noise_2", "edm"]  # alpha and sigma are linear in t
VARIANCE_PRESERVING = [name for name in PATHS if name not in STRAIGHT]
