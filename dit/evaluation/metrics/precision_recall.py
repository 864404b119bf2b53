"""Improved precision and recall: how many samples lie among the reference images, and how many of these among samples.

A row lies among a set if it is within the ball of one of its members, which reaches to that member's third neighbour.
Either share is of rows that are counted as independent, the balls being given: so the standard error is (p (1 - p) /
N)^1/2, N the samples for precision and the reference images for recall.

Source: Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", 2019, equations 1
and 2; ADM compares 10,000 reference images with all samples.
"""

from dataclasses import dataclass

import torch

from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.metrics.metric import Figure
from dit.evaluation.metrics.neighbours import ADM, Arithmetic, neighbour_distances, tiles
from dit.evaluation.metrics.share import share


@dataclass(frozen=True)
class PrecisionRecall:
    """Two shares in [0, 1]; higher is better. A `Metric`."""

    arithmetic: Arithmetic = ADM
    """How distances are rounded."""
    features: str = "pool"
    """Which features it takes."""
    k: int = 3
    """Which neighbour a ball reaches to."""
    reference = "images"
    names = ("precision", "recall")

    def num_needed(self, width: int) -> int:
        """Return how many rows have a k-th neighbour."""
        return self.k + 1

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> dict[str, Figure]:
        """Return both."""
        found, known = samples.rows(self.features), reference.rows(self.features)
        radii_found = neighbour_distances(found, self.k, self.arithmetic)
        radii_known = neighbour_distances(known, self.k, self.arithmetic)
        is_found, is_known = torch.zeros(len(found)).bool(), torch.zeros(len(known)).bool()
        for tile in tiles(known, found, self.arithmetic):
            of_known, of_found = radii_known[tile.a, None], radii_found[tile.b]
            is_found[tile.b] |= (tile.beside(of_known) <= of_known).any(dim=0)
            is_known[tile.a] |= (tile.beside(of_found) <= of_found).any(dim=1)
        return {"precision": share(is_found), "recall": share(is_known)}
