r"""The Frechet distance between feature distributions.

Both sets of features are described by a mean and a covariance; the distance between the two Gaussians is

    d^2 = |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr((S_1^1/2 S_2 S_1^1/2)^1/2)

The matrix under the last root is symmetric and has no negative eigenvalues even where a covariance is singular (fewer
samples than features), so its eigenvalues give the trace, where a root of S_1 S_2 may come out complex.

Source: Dowson and Landau, "The Frechet distance between multivariate normal distributions", 1982, equation 4; as a
quality figure: Heusel et al., "GANs trained by a two time-scale update rule", 2017, section 3.

Shapes: N samples, D features. All statistics are float64.
"""

import torch
from torch import Tensor

from dit.errors import DitError
from dit.evaluation.extractors import Features, check_finite


class Moments:
    """Mean and covariance of features that arrive in batches.

    Batches are merged by their own means and scatter matrices, so nothing cancels however far the mean is from zero.
    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979,
    equation 2.1.

    Args:
        num_features: D.
    """

    def __init__(self, num_features: int) -> None:
        self.num_features = num_features
        self.count = 0
        self._mean = torch.zeros(num_features, dtype=torch.float64)
        self._scatter = torch.zeros(num_features, num_features, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add a batch of features (N, D), finite; converted to float64 on the CPU.

        Raises:
            DitError: the width is not D.
        """
        features = features.detach().to("cpu", torch.float64)
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise DitError(f"features: expected (N, {self.num_features}), found {tuple(features.shape)}")
        if len(features) == 0:
            return
        mean = features.mean(dim=0)  # (D,)
        centred = features - mean  # (N, D)
        difference = mean - self._mean
        total = self.count + len(features)
        self._scatter += centred.T @ centred + difference.outer(difference) * (self.count * len(features) / total)
        self._mean += difference * (len(features) / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """Mean of all features so far, (D,)."""
        return self._mean.clone()

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (divided by N - 1) of all features so far, (D, D).

        Raises:
            DitError: fewer than two samples were added.
        """
        if self.count < 2:
            raise DitError(f"num: expected at least 2 samples for a covariance, found {self.count}; ask for more")
        return self._scatter / (self.count - 1)


class FrechetDistance:
    """The distance of a set of images from a reference, in an extractor's D features; a `Metric`."""

    def __init__(self, num_features: int) -> None:
        self.moments = Moments(num_features)

    def update(self, described: Features, labels: Tensor, /) -> None:
        """Add a batch of described images; their labels do not matter."""
        self.moments.update(described.features)

    def value(self, reference: "FrechetDistance") -> float:
        """Return the distance from the reference, at least 0; lower is better."""
        one, other = self.moments, reference.moments
        return frechet_distance(one.mean, one.covariance, other.mean, other.covariance)


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
    root = _square_root(covariance_1.double())  # (D, D)
    middle = root @ covariance_2.double() @ root
    eigenvalues = _without_negative(torch.linalg.eigvalsh((middle + middle.T) / 2))  # (D,)
    difference = mean_1.double() - mean_2.double()
    squared = difference.dot(difference) + covariance_1.double().trace() + covariance_2.double().trace()
    # Rounding can leave -1e-12 where the two are equal.
    return max(0.0, (squared - 2 * eigenvalues.sqrt().sum()).item())


def _square_root(matrix: Tensor) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    return (vectors * _without_negative(eigenvalues).sqrt()) @ vectors.T


def _without_negative(eigenvalues: Tensor) -> Tensor:
    """Set to zero what rounding made negative."""
    lowest, largest = eigenvalues.min().item(), eigenvalues.abs().max().item()
    if lowest < -1e-6 * largest:
        raise DitError(f"covariance: expected no negative eigenvalues, found {lowest:.3g} beside {largest:.3g}")
    return eigenvalues.clamp(min=0)
