r"""The Frechet distance between feature distributions: FID, sFID and FD-DINOv2 are this in different features.

Both sets of features are described by a mean and a covariance; the distance between the two Gaussians is

    d^2 = |m - m_r|^2 + tr(S) + tr(S_r) - 2 tr(A^1/2),    A = S_r^1/2 S S_r^1/2 = U diag(l) U'

A is symmetric and has no negative eigenvalues even where a covariance is singular (fewer samples than features), so its
eigenvalues give the trace, where a root of S S_r may come out complex.

In z = diag(l)^-1/2 U' S_r^1/2 (x - m), whose covariance is the identity, a sample x moves the distance by

    q(x) / N,    q(x) = 2 (x - m).(m - m_r) + |x - m|^2 - sum_i l_i^1/2 z_i^2

so the standard error is the deviation of q over N^1/2. The second derivative of the trace gives the bias,

    (tr(S) + 1/2 sum_ij w_ij (E[z_i^2 z_j^2] - [i = j])) / N,    w_ij = (l_i l_j)^1/2 / (l_i^1/2 + l_j^1/2)

which is the floor. It holds to first order in 1/N, for samples that are drawn independently.

Source: Dowson and Landau, "The Frechet distance between multivariate normal distributions", 1982, equation 4; as a
quality figure: Heusel et al., "GANs trained by a two time-scale update rule", 2017, section 3; sFID: Nash et al.,
"Generating images with sparse representations", 2021; the derivatives: Daleckii and Krein's formula.

Shapes: N samples, D features. Statistics are float64.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dit.errors import DitError
from dit.evaluation.feature_set import ROWS_AT_ONCE, FeatureSet
from dit.evaluation.metrics.metric import Figure
from dit.evaluation.moments import Gaussian, check_finite


@dataclass(frozen=True)
class FrechetDistance:
    """The distance of samples from a reference, at least 0; lower is better. A `Metric`."""

    name: str
    """Name of the figure, such as fid."""
    features: str
    """Which features it takes."""
    reference = "moments"

    @property
    def names(self) -> tuple[str, ...]:
        """Name of its one figure."""
        return (self.name,)

    def num_needed(self, width: int) -> int:
        """Return one more than there are features, for with fewer samples the covariance is singular."""
        return width + 1

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> dict[str, Figure]:
        """Return the distance; with too few samples without standard error and floor."""
        found, known = samples.gaussian(self.features), reference.gaussian(self.features)
        value = frechet_distance(found.mean, found.covariance, known.mean, known.covariance)
        rows = samples.rows(self.features)
        if len(rows) < self.num_needed(rows.shape[1]):
            return {self.name: Figure(value)}
        error, floor = _error_and_floor(rows, samples.labels, found, known)
        return {self.name: Figure(value, standard_error=error, floor=floor)}


def frechet_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """Compute the squared Frechet (2-Wasserstein) distance between two Gaussians.

    Args:
        mean_1: (D,).
        covariance_1: (D, D), symmetric without negative eigenvalues; it may be singular.
        mean_2: (D,).
        covariance_2: (D, D), likewise.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        DitError: an entry is not finite, or a covariance has an eigenvalue that is clearly negative.

    Source: Dowson and Landau, 1982, equation 4.
    """
    check_finite(torch.stack([mean_1, mean_2]))
    check_finite(torch.cat([covariance_1, covariance_2]))
    eigenvalues = without_negative(torch.linalg.eigvalsh(_middle(_square_root(covariance_1), covariance_2)))  # (D,)
    difference = mean_1.double() - mean_2.double()
    squared = difference.dot(difference) + covariance_1.double().trace() + covariance_2.double().trace()
    # Rounding can leave -1e-12 where the two are equal.
    return max(0.0, (squared - 2 * eigenvalues.sqrt().sum()).item())


def without_negative(eigenvalues: Tensor, of: str = "covariance") -> Tensor:
    """Set to zero what rounding made negative among a covariance's eigenvalues (D,).

    Raises:
        DitError: one is clearly negative; the message says of what.
    """
    lowest, largest = eigenvalues.min().item(), eigenvalues.abs().max().item()
    if lowest < -1e-6 * largest:
        raise DitError(f"{of}: expected no negative eigenvalues, found {lowest:.3g} beside {largest:.3g}")
    return eigenvalues.clamp(min=0)


def _error_and_floor(rows: Tensor, labels: Tensor | None, found: Gaussian, known: Gaussian) -> tuple[float, float]:
    """Return standard error and floor of the distance of rows (N, D) from a reference; two digits need no float64."""
    root = _square_root(known.covariance)
    eigenvalues, vectors = torch.linalg.eigh(_middle(root, found.covariance))
    eigenvalues = without_negative(eigenvalues)
    is_there = eigenvalues > 1e-12 * eigenvalues.max()
    roots = eigenvalues.sqrt().where(is_there, 0)  # (D,)
    whiten = (root @ vectors * (1 / roots).where(is_there, 0)).float()  # (D, D)
    weights = (roots.outer(roots) / (roots[:, None] + roots).clamp(min=1e-300)).float()  # (D, D)
    mean, difference = found.mean.float(), (found.mean - known.mean).float()
    moved, fourth = [], 0.0
    for block in rows.split(ROWS_AT_ONCE):
        centred = block - mean  # (B, D)
        squares = (centred @ whiten).square_()  # (B, D)
        moved.append((2 * centred @ difference + centred.square().sum(dim=1) - squares @ roots.float()).double())
        fourth += (squares @ weights * squares).sum().item()
    num = len(rows)
    floor = (found.covariance.trace().item() + (fourth / num - weights.trace().item()) / 2) / num
    return _deviation(torch.cat(moved), labels) / num**0.5, floor


def _deviation(values: Tensor, labels: Tensor | None) -> float:
    """Return the deviation of values (N,), within their classes where every class was asked for equally often."""
    if labels is not None:
        _, rows, counts = labels.unique(return_inverse=True, return_counts=True)
        if len(counts) > 1 and counts.min() >= 2 and counts.max() - counts.min() <= 1:
            means = torch.zeros(len(counts)).double().index_add_(0, rows, values) / counts
            return ((values - means[rows]).square().sum() / (len(values) - len(counts))).sqrt().item()
    return values.std().item()


def _middle(root: Tensor, covariance: Tensor) -> Tensor:
    middle = root @ covariance.double() @ root
    return (middle + middle.T) / 2


def _square_root(matrix: Tensor) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(matrix.double())
    return (vectors * without_negative(eigenvalues).sqrt()) @ vectors.T
