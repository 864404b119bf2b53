"""Power-function averages of the weights, and any width of average from snapshots of two of them after the run.

The average of exponent gamma after n steps weights the weights of step k by k^gamma, normalised:
    theta_n = beta_n theta_(n-1) + (1 - beta_n) theta,   beta_n = (1 - 1/n)^(gamma + 1),
whose profile on (0, n] is p(k) = (gamma + 1) k^gamma / n^(gamma + 1); the recursion holds exactly its integral over
each step. Its width relative to the length of the run is sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)).
Snapshots span a space of profiles; another width is the combination of snapshots whose profile is nearest to its own.

Source: Karras et al., "Analyzing and improving the training dynamics of diffusion models" (EDM2), CVPR 2024,
section 3.1 (eqs. 2 to 4) and appendix C.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit import checkpoint
from dit.errors import ConfigError

MAX_SIGMA_REL = 12**-0.5
"""Width of the plain mean over the whole run (gamma = 0): no average with gamma >= 0 is wider."""


def sigma_rel_to_gamma(sigma_rel: float) -> float:
    """Return the exponent gamma >= 0 of the average of relative width `sigma_rel`.

    Raises:
        ConfigError: `sigma_rel` is not in (0, 1 / sqrt(12)].

    Source: EDM2, eq. 4: the largest root of (gamma + 2)^2 (gamma + 3) = (gamma + 1) / sigma_rel^2.
    """
    if not 0 < sigma_rel <= MAX_SIGMA_REL:
        raise ConfigError(f"sigma_rel: expected a number in (0, {MAX_SIGMA_REL:.4f}], found {sigma_rel}")
    inverse = sigma_rel**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def solve_coefficients(steps: Sequence[int], gammas: Sequence[float], *, step: int, gamma: float) -> np.ndarray:
    """Return how much of each snapshot the average (step, gamma) holds.

    Args:
        steps: (N,) step of each snapshot.
        gammas: (N,) exponent of each snapshot.
        step: step at which the wanted average ends.
        gamma: its exponent.

    Returns:
        (N,) float64, the least-squares coefficients, with sum 1.

    Source: EDM2, appendix C: A x = b with A_ij = <p_i, p_j> and b_i = <p_i, p>; here also sum x = 1, by a Lagrange
    multiplier: every profile integrates to 1, and weights that no longer change must come out unchanged.
    """
    n, g = np.asarray(steps, dtype=np.float64), np.asarray(gammas, dtype=np.float64)
    products = _dot(n[:, None], g[:, None], n[None], g[None])  # (N, N)
    wanted = _dot(n, g, np.asarray(float(step)), np.asarray(float(gamma)))  # (N,)
    # Scaling every profile to length 1 keeps the conditioning of narrow ones, whose length grows, from mattering.
    length = np.sqrt(np.diag(products))
    system = np.block(
        [[products / np.outer(length, length), 1 / length[:, None]], [1 / length[None], np.zeros((1, 1))]]
    )
    solution = np.linalg.lstsq(system, np.append(wanted / length, 1.0), rcond=1e-13)[0]
    return solution[:-1] / length


def _dot(n_a: np.ndarray, g_a: np.ndarray, n_b: np.ndarray, g_b: np.ndarray) -> np.ndarray:
    """Return the integral of p_a p_b over (0, min(n_a, n_b)], in a form whose powers are of ratios below 1."""
    ratio = np.minimum(n_a, n_b) / np.maximum(n_a, n_b)
    exponent = np.where(n_a < n_b, g_b, g_a)  # of the one that ends later
    return (g_a + 1) * (g_b + 1) / ((g_a + g_b + 1) * np.maximum(n_a, n_b)) * ratio**exponent


def profile_error(
    steps: Sequence[int], gammas: Sequence[float], coefficients: np.ndarray, *, step: int, gamma: float
) -> float:
    """Return how far the combined profile is from the wanted one, relative to its length: 0 is a perfect match."""
    n, g = np.asarray([*steps, step], dtype=np.float64), np.asarray([*gammas, gamma], dtype=np.float64)
    products = _dot(n[:, None], g[:, None], n[None], g[None])
    difference = np.append(coefficients, -1.0)
    return float(max(0.0, difference @ products @ difference / products[-1, -1]) ** 0.5)


@dataclass(frozen=True)
class Reconstruction:
    """An average that was not tracked."""

    tensors: dict[str, Tensor]
    """The network's tensors by name, float32."""
    step: int
    """Step at which the average ends."""
    num_snapshots: int
    """Averages that it was combined from."""
    profile_error: float
    """How far its profile is from the wanted one, relative to its length."""


def reconstruct(snapshots: str | Path, sigma_rel: float, *, step: int | None = None) -> Reconstruction:
    """Combine a run's snapshots into the average of relative width `sigma_rel`.

    Args:
        snapshots: folder of snapshots; each holds the averages of one or more widths.
        sigma_rel: the wanted width, in (0, 1 / sqrt(12)].
        step: the snapshot's step at which the average ends; the last by default.

    Raises:
        ConfigError: there are no snapshots, none of that step, or no average has that width.
        DitError: a snapshot is damaged.
    """
    gamma = sigma_rel_to_gamma(sigma_rel)
    found = checkpoint.load_all(snapshots)
    if not found:
        raise ConfigError(
            f"{snapshots}: expected snapshots, found none; train with ema.sigma_rels, such as [0.05, 0.1]"
        )
    step = found[-1].step if step is None else step
    if step not in {snapshot.step for snapshot in found}:
        raise ConfigError(f"{snapshots}: expected a snapshot of step {step}, found {[s.step for s in found]}")
    parts = [(s, width) for s in found if s.step <= step for width in s.state["sigma_rels"]]
    steps, gammas = [s.step for s, _ in parts], [sigma_rel_to_gamma(width) for _, width in parts]
    coefficients = solve_coefficients(steps, gammas, step=step, gamma=gamma)
    tensors = combine((s.tensors(f"power-{width}") for s, width in parts), coefficients)
    error = profile_error(steps, gammas, coefficients, step=step, gamma=gamma)
    return Reconstruction(tensors, step, len(parts), error)


def combine(snapshots: Iterable[Mapping[str, Tensor]], coefficients: Iterable[float]) -> dict[str, Tensor]:
    """Return the weighted sum of snapshots, read one after the other: float32, summed in float64."""
    total: dict[str, Tensor] = {}
    for snapshot, coefficient in zip(snapshots, coefficients, strict=True):
        for name, value in snapshot.items():
            if name not in total:
                total[name] = torch.zeros(value.shape, dtype=torch.float64)
            total[name].add_(value.to(torch.float64), alpha=float(coefficient))
    return {name: value.to(torch.float32) for name, value in total.items()}
