"""Mean and covariance of features, in float64: what a Frechet distance knows of a set of images.

Shapes: N samples, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dit.errors import DitError


@dataclass(frozen=True)
class Gaussian:
    """The normal distribution that stands for a set of features."""

    mean: Tensor
    """(D,) float64."""
    covariance: Tensor
    """(D, D) float64, divided by N - 1."""
    num: int | None = None
    """N; None where a file does not say."""


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

    def gaussian(self) -> Gaussian:
        """Return mean, covariance and number of all features so far."""
        return Gaussian(self.mean, self.covariance, self.count)


def check_finite(features: Tensor) -> None:
    """Refuse NaN and infinity in features (N, D) or logits (N, K).

    Raises:
        DitError: names the first sample that is not finite.
    """
    bad = (~features.isfinite()).any(dim=1).nonzero()
    if len(bad):
        raise DitError(
            f"features: expected finite numbers, found NaN or infinity in {len(bad)} of {len(features)} samples, first "
            f"at position {int(bad[0])}; check the images and the extractor's weights"
        )
