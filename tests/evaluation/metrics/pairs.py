"""The golden pairs of features, and what the original implementations return for them (goldens/evaluation.json)."""

import json

import torch

from dit.evaluation.feature_set import FeatureSet
from tests.goldens import FOLDER, load_tensors

FIGURES = json.loads((FOLDER / "evaluation.json").read_text())
NAMES = ("mixture", "relu", "heavy", "rank", "few", "far", "ties", "same")


def feature_set(name="features", rows=None, labels=None):
    """Rows as features of a name, in parts of 500, as a network gives them."""
    found = FeatureSet()
    for start in range(0, len(rows), 500):
        part = slice(start, start + 500)
        found.add({name: rows[part]}, None if labels is None else labels[part])
    return found


def load_pair(name, *, features="pool"):
    """Samples and reference of a golden pair; `same` is a reference against itself."""
    tensors = load_tensors("evaluation")
    reference = tensors["mixture_ref" if name == "same" else f"{name}_ref"]
    samples = reference if name == "same" else tensors[f"{name}_sample"]
    return feature_set(features, samples), feature_set(features, reference)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def repeat(metric, reference, draw, times, name):
    """Measure samples that are drawn anew: the figures of all repetitions."""
    return [metric.measure(feature_set(metric.features, draw(seed)), reference)[name] for seed in range(times)]


def mean_and_deviation(values):
    values = torch.tensor(values, dtype=torch.float64)
    return values.mean().item(), values.std().item()
