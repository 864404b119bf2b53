r"""The Frechet distance between feature distributions, and class accuracy.

Both sets of features are described by a mean and a covariance; the distance between the two Gaussians is

    d^2 = |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr((S_1^1/2 S_2 S_1^1/2)^1/2)

The matrix under the last root is symmetric and has no negative eigenvalues even where a covariance is singular (fewer
samples than features), so its eigenvalues give the trace, where a root of S_1 S_2 may come out complex.

Source: Dowson and Landau, "The Frechet distance between multivariate normal distributions", 1982, equation 4; as a
quality figure: Heusel et al., "GANs trained by a two time-scale update rule", 2017, section 3.

Shapes: N samples, D features, K classes. All statistics are float64.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dit.errors import DitError


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
            DitError: a feature is NaN or infinite, or the width is not D.
        """
        features = features.detach().to("cpu", torch.float64)
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise DitError(f"features: expected (N, {self.num_features}), found {tuple(features.shape)}")
        check_finite(features, first=self.count)
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


def check_finite(features: Tensor, *, first: int = 0) -> None:
    """Refuse NaN and infinity in features (N, D) or logits (N, K).

    Raises:
        DitError: names the first sample that is not finite, counted from `first`.
    """
    bad = (~features.isfinite()).any(dim=1).nonzero()
    if len(bad):
        raise DitError(
            f"features: expected finite numbers, found NaN or infinity in {len(bad)} of {len(features)} samples, first "
            f"at position {first + int(bad[0])}; check the images and the extractor's weights"
        )


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


@dataclass(frozen=True)
class Accuracy:
    """How many samples a classifier takes for what they should be."""

    overall: float
    """Share in [0, 1] of all samples."""
    by_class: dict[int, float]
    """Share in [0, 1] for each class that occurs among the labels, in ascending order."""
    num: int
    """Number of samples."""

    @property
    def standard_error(self) -> float:
        """Standard error of the overall share, as of independent samples."""
        return (self.overall * (1 - self.overall) / self.num) ** 0.5


def class_accuracy(predicted: Tensor, labels: Tensor) -> Accuracy:
    """Compare a classifier's verdicts with the classes that were asked for.

    Args:
        predicted: (N,) int64, the classifier's verdicts, N at least 1.
        labels: (N,) int64, the classes that were asked for.

    Raises:
        DitError: the two differ in length, or are empty.
    """
    if predicted.shape != labels.shape or len(labels) == 0:
        raise DitError(f"labels: expected one for each of {len(predicted)} (at least 1) samples, found {len(labels)}")
    right = (predicted == labels).double()  # (N,)
    by_class = {label: right[labels == label].mean().item() for label in labels.unique().tolist()}
    return Accuracy(overall=right.mean().item(), by_class=by_class, num=len(labels))
