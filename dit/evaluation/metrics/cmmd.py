r"""CMMD: the maximum mean discrepancy of CLIP embeddings of length 1, under a Gaussian kernel.

    CMMD = 1000 (mean_{ij} k(x_i, x_j) + mean_{ij} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j)),
    k(x, y) = exp(-|x - y|^2 / (2 * 10^2))

Means include the diagonal, where k is 1, so the value is too high by (1 - k_x) / M + (1 - k_y) / N, k_x and k_y the
means without it: this is the floor. A sample moves the value by 2 (mean_j k(x, x_j) - mean_j k(x, y_j)) / M.

Source: Jayasumana et al., "Rethinking FID: towards a better evaluation metric for image generation", 2024, equation 4.

Shapes: M samples, N reference images, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dit.evaluation.feature_set import ROWS_AT_ONCE, FeatureSet
from dit.evaluation.metrics.metric import Figure

SIGMA = 10.0
SCALE = 1000.0


@dataclass(frozen=True)
class ClipDiscrepancy:
    """At least about 0; lower is better. A `Metric`."""

    features: str = "projection"
    """Which features it takes; rows of length 1."""
    reference = "images"
    names = ("cmmd",)

    def num_needed(self, width: int) -> int:
        """Return what its bias can be told of."""
        return 2

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> dict[str, Figure]:
        """Return the discrepancy."""
        x, y = samples.rows(self.features), reference.rows(self.features)
        own, across, known = _means(x, x), _means(x, y), _means(y, y)
        value = own.mean() + known.mean() - 2 * across.mean()
        error = 2 * (own - across).std() / len(x) ** 0.5
        value, error, floor = (SCALE * number.item() for number in (value, error, _bias(own) + _bias(known)))
        return {"cmmd": Figure(value, standard_error=error, floor=floor)}


def _means(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean kernel of each row of x (M, D) with those of y (N, D): (M,) float64."""
    sums = torch.zeros(len(x), dtype=torch.float64)
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = x[start : start + ROWS_AT_ONCE].double()
        for block in y.split(ROWS_AT_ONCE):
            block = block.double()
            squared = rows.square().sum(dim=1)[:, None] + block.square().sum(dim=1) - 2 * rows @ block.T
            sums[start : start + len(rows)] += (squared / (-2 * SIGMA**2)).exp_().sum(dim=1)
    return sums / len(y)


def _bias(means: Tensor) -> Tensor:
    """Return what the diagonal adds to the mean kernel of rows with each other, of which means (N,) are given."""
    num = len(means)
    without = (means.mean() * num - 1) / (num - 1)
    return (1 - without) / num
