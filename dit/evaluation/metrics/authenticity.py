"""AuthPct: how many samples are no near copies of a training image.

A sample is authentic if it is farther from its nearest training image than that one is from its own nearest. About 50
is what fresh images of the same distribution have; much lower means that training images are memorised.

Source: Alaa et al., "How faithful is your synthetic data?", 2022, section 4; in percent of samples, as Stein et al.,
"Exposing flaws of generative model evaluation metrics", 2023, report it in DINOv2's features.
"""

from dataclasses import dataclass

import torch

from dit.evaluation.feature_set import ROWS_AT_ONCE, FeatureSet
from dit.evaluation.metrics.metric import Figure
from dit.evaluation.metrics.neighbours import EXACT, Arithmetic, neighbour_distances, row_distances, tiles
from dit.evaluation.metrics.share import share


@dataclass(frozen=True)
class Authenticity:
    """Percent of samples; the reference has to be training images. A `Metric`."""

    arithmetic: Arithmetic = EXACT
    """How distances are rounded."""
    features: str = "class_token"
    """Which features it takes."""
    reference = "images"
    names = ("authpct",)

    def num_needed(self, width: int) -> int:
        """Return how many images have a neighbour."""
        return 2

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> dict[str, Figure]:
        """Return the percentage."""
        found, known = samples.rows(self.features), reference.rows(self.features)
        own = neighbour_distances(known, 1, self.arithmetic)
        nearest = torch.full((len(found),), torch.inf).double()
        neighbour = torch.zeros(len(found), dtype=torch.int64)
        for tile in tiles(known, found, self.arithmetic):
            distances, rows = tile.distances.double().min(dim=0)
            is_nearer = distances < nearest[tile.b]
            nearest[tile.b] = distances.where(is_nearer, nearest[tile.b])
            neighbour[tile.b] = (rows + tile.a.start).where(is_nearer, neighbour[tile.b])
        if self.arithmetic.settles_ties:
            for start in range(0, len(found), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                nearest[rows] = row_distances(found[rows], known[neighbour[rows]])
        return {"authpct": share(nearest > own[neighbour], scale=100.0)}
