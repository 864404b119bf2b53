r"""The kernel Inception distance: the squared maximum mean discrepancy of the kernel k(x, y) = (x.y / D + 1)^3.

    KID = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j)

has no bias, so it has no floor; it is averaged over random subsets of samples and reference. If subsets of n out of N
rows have deviation s, all rows together have about s (n / N)^1/2, and B subsets add what chance adds to their mean:

    standard error = s (f + (1 - f) / B)^1/2,    f = n / N

Source: Binkowski et al., "Demystifying MMD GANs", 2018, section 4; the subsets are torch-fidelity's; the variance of an
incomplete U-statistic: Blom, "Some properties of incomplete U-statistics", 1976.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.metrics.metric import Figure


@dataclass(frozen=True)
class KernelDistance:
    """The mean over subsets; lower is better, and slightly below 0 is possible. A `Metric`."""

    num_subsets: int = 100
    """B."""
    subset_size: int = 1000
    """n: rows of either set in a subset."""
    seed: int = 2020
    """Of the choice of subsets."""
    features: str = "pool"
    """Which features it takes."""
    reference = "images"
    names = ("kid",)

    def num_needed(self, width: int) -> int:
        """Return the size of a subset."""
        return self.subset_size

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> dict[str, Figure]:
        """Return the mean, with the deviation over subsets as its spread."""
        found, known = samples.rows(self.features), reference.rows(self.features)
        rng, size = np.random.RandomState(self.seed), self.subset_size
        values = []
        for _ in range(self.num_subsets):
            pair = [rows[torch.from_numpy(rng.choice(len(rows), size, replace=False))] for rows in (found, known)]
            values.append(kernel_distance(*pair))
        spread, share = float(np.std(values)), size / min(len(found), len(known))
        error = spread * (share + (1 - share) / len(values)) ** 0.5
        return {"kid": Figure(float(np.mean(values)), standard_error=error, floor=0.0, spread=spread)}


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of rows x (M, D) and y (N, D), in float64."""
    x, y = x.double(), y.double()
    within = [_mean_without_diagonal(_cubic(rows, rows)) for rows in (x, y)]
    return (within[0] + within[1] - 2 * _cubic(x, y).mean()).item()


def _mean_without_diagonal(kernel: Tensor) -> Tensor:
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
