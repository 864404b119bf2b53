r"""The Inception score: how sure a classifier is of each sample, and how evenly samples fall on its classes.

    IS = exp(mean_i KL(p_i || p)),    p_i = softmax(logits_i),    p = mean_i p_i

taken over each split of the samples and averaged. A sample moves log IS by (KL_i - mean KL) / n, so the standard error
of a split of n samples is IS times the deviation of KL_i over n^1/2.

Source: Salimans et al., "Improved techniques for training GANs", 2016, section 4. The logits have no bias, as in the
original code's graph.

Shapes: N samples, K outputs of the classifier.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.metrics.metric import Figure

NAME = "inception_score"
SHUFFLE_SEED = 2020
"""torch-fidelity's."""


@dataclass(frozen=True)
class InceptionScore:
    """The mean score of splits, at least 1; higher is better. A `Metric`."""

    split_size: int | None = 5000
    """Samples of a split, one after the other; the last may be smaller and weighs the same. None: 10 equal splits."""
    shuffle: bool = False
    """Whether samples are shuffled first; where they are sorted by class they always are, for a split needs all."""
    features = "logits"
    reference = "none"

    @property
    def names(self) -> tuple[str, ...]:
        """Name of its one figure."""
        return (NAME,)

    def num_needed(self, width: int) -> int:
        """Return two for each of ten splits."""
        return 2 if self.split_size else 20

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> dict[str, Figure]:
        """Return the score, whatever the reference."""
        logits, note = samples.rows(self.features), None
        if are_sorted(samples.labels) and not self.shuffle:
            note = f"samples are sorted by class and were shuffled by seed {SHUFFLE_SEED}"
        if self.shuffle or note:
            rng = np.random.RandomState(SHUFFLE_SEED)
            logits = logits[torch.from_numpy(rng.permutation(len(logits)))]
        num = len(logits)
        edges = [*range(0, num, self.split_size), num] if self.split_size else [i * num // 10 for i in range(11)]
        splits = [_score(logits[first:last]) for first, last in pairwise(edges)]
        scores, errors = torch.tensor(splits).double().unbind(dim=1)
        error = errors.square().sum().sqrt().item() / len(splits)
        spread = scores.std(correction=0).item()
        return {NAME: Figure(scores.mean().item(), standard_error=error, spread=spread, note=note)}


def are_sorted(labels: Tensor | None) -> bool:
    """Tell whether labels (N,) of more than one class are in order."""
    return labels is not None and bool((labels[:-1] <= labels[1:]).all()) and bool(labels[0] != labels[-1])


def _score(logits: Tensor) -> tuple[float, float]:
    """Return the score of one split of logits (N, K), and its standard error."""
    log_p = logits.double().log_softmax(dim=1)
    p = log_p.exp()
    divergence = (p * log_p - torch.xlogy(p, p.mean(dim=0))).sum(dim=1)  # (N,); what is never predicted counts nothing
    score = divergence.mean().exp().item()
    return score, score * divergence.var().item() ** 0.5 / len(logits) ** 0.5 if len(logits) > 1 else 0.0
