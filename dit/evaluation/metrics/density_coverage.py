"""Density and coverage: balls around the reference images alone, which outliers among the samples can't enlarge.

Density counts the balls that hold a sample, over k; coverage is the share of balls that hold one at all. A ball reaches
to its centre's fifth neighbour, its edge excluded. Unlike a share, density may exceed 1.

Source: Naeem et al., "Reliable fidelity and diversity metrics for generative models", 2020, equations 4 and 5.
"""

from dataclasses import dataclass

import torch

from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.metrics.metric import Figure
from dit.evaluation.metrics.neighbours import EXACT, Arithmetic, neighbour_distances, tiles
from dit.evaluation.metrics.share import share


@dataclass(frozen=True)
class DensityCoverage:
    """Higher is better; samples from the reference's own distribution have density 1. A `Metric`."""

    arithmetic: Arithmetic = EXACT
    """How distances are rounded."""
    features: str = "pool"
    """Which features it takes."""
    k: int = 5
    """Which neighbour a ball reaches to."""
    reference = "images"
    names = ("density", "coverage")

    def num_needed(self, width: int) -> int:
        """Return how many rows have a k-th neighbour."""
        return self.k + 1

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> dict[str, Figure]:
        """Return both."""
        found, known = samples.rows(self.features), reference.rows(self.features)
        radii = neighbour_distances(known, self.k, self.arithmetic)
        counts, is_covered = torch.zeros(len(found)).double(), torch.zeros(len(known)).bool()
        for tile in tiles(known, found, self.arithmetic):
            bounds = radii[tile.a, None]
            is_inside = tile.beside(bounds) < bounds
            counts[tile.b] += is_inside.sum(dim=0)
            is_covered[tile.a] |= is_inside.any(dim=1)
        counts /= self.k
        density = Figure(counts.mean().item(), standard_error=counts.std().item() / len(found) ** 0.5)
        return {"density": density, "coverage": share(is_covered)}
