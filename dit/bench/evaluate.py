"""`evaluate`: figures of random features, beside the original's formulas in NumPy and beside torch-fidelity.

Races are of at most 5,000 samples; `dit.bench.from_disk` takes more. Another case is what features cost: digits sampled
and described, against digits sampled alone. Metrics are computed on the CPU whatever the device. Exact precision and
recall are in float64 here, in torch-fidelity in float32.

Shapes: N samples, M reference images, D features, K outputs of the classifier.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit.bench import from_disk, originals
from dit.bench.harness import Row, Run, race
from dit.bench.settings import Settings
from dit.evaluation.described import DescribedImages
from dit.evaluation.drawn import Drawn
from dit.evaluation.evaluate import balanced_labels
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.features import load_features
from dit.evaluation.metrics.frechet import frechet_distance
from dit.evaluation.metrics.inception_score import SHUFFLE_SEED, InceptionScore
from dit.evaluation.metrics.neighbours import ADM, EXACT
from dit.evaluation.metrics.precision_recall import PrecisionRecall
from dit.evaluation.moments import Gaussian
from dit.zoo.pipeline import load_pipeline

NUM_SAMPLES, WIDTH, NUM_OUTPUTS = 5_000, 2_048, 1_008
SPLITS = 10
MODEL, DIGITS = "dit_ti_2.mnist", 100
Pair = tuple[FeatureSet, FeatureSet]
NUMPY, FIDELITY = originals.NAME, "torch-fidelity"


def run(settings: Settings) -> Iterator[Row]:
    """Measure every figure, of 5,000 samples by default and a fifth as many reference images."""
    num = min(settings.batch or NUM_SAMPLES, NUM_SAMPLES)
    if find_spec("torch_fidelity") is None:
        settings.say("    torch-fidelity, SciPy: skipped, not installed; pip install 'dit-zoo[eval]'")
    pair = _features(num, 0), _features(max(num // 5, originals.NEIGHBOURHOOD + 1), 1)
    sizes = f"{num} against {pair[1].num}"
    for case, contenders in {
        f"FID from moments, {WIDTH} features": _fid(pair),
        f"Inception score of {num}": _inception_score(pair),
        f"precision and recall in float16, {sizes}": _precision_recall_adm(pair),
        f"precision and recall, {sizes}": _precision_recall(pair),
    }.items():
        settings.say(f"evaluate {case}")
        there = {name: work for name, work in contenders.items() if find_spec("torch_fidelity") or name != FIDELITY}
        work = {name: _built(run) for name, run in there.items()}
        yield from race("evaluate", case, work, replace(settings, budget=settings.budget / 5))
    del pair
    yield from _digits(settings)
    yield from from_disk.measure(settings.batch or NUM_SAMPLES, settings)


def _built(run: Run) -> Callable[[], Run]:
    return lambda: run


def _features(num: int, seed: int) -> FeatureSet:
    """Return features as Inception's pool: not negative, their deviations far apart."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-1, 0, WIDTH)
    pool = torch.randn(num, WIDTH, generator=generator).mul_(scale).add_(0.1).relu_()
    found = FeatureSet()
    found.add({"pool": pool, "logits": torch.randn(num, NUM_OUTPUTS, generator=generator).mul_(2)})
    return found


def _fid(pair: Pair) -> dict[str, Run]:
    found, known = (features.gaussian("pool") for features in pair)

    def ours() -> float:
        return frechet_distance(found.mean, found.covariance, known.mean, known.covariance)

    def theirs() -> float:
        sides = ((gaussian.mean.numpy(), gaussian.covariance.numpy()) for gaussian in (found, known))
        return originals.frechet_distance(*sides)

    def fidelity() -> dict[str, float]:
        from torch_fidelity.metric_fid import fid_statistics_to_metric

        return fid_statistics_to_metric(_statistics(found), _statistics(known), verbose=False)

    return {"dit": ours, NUMPY: theirs, FIDELITY: fidelity}


def _statistics(gaussian: Gaussian) -> dict[str, np.ndarray]:
    return {"mu": gaussian.mean.numpy(), "sigma": gaussian.covariance.numpy()}


def _inception_score(pair: Pair) -> dict[str, Run]:
    samples, _ = pair
    logits = samples.rows("logits")

    def theirs() -> float:
        return originals.inception_score(logits.numpy(), SPLITS, seed=SHUFFLE_SEED)

    def fidelity() -> dict[str, float]:
        from torch_fidelity.metric_isc import isc_features_to_metric

        return isc_features_to_metric(logits, splits=SPLITS)

    metric = InceptionScore(split_size=None, shuffle=True)
    return {"dit": lambda: metric.measure(*pair), NUMPY: theirs, FIDELITY: fidelity}


def _precision_recall_adm(pair: Pair) -> dict[str, Run]:
    samples, known = (features.rows("pool").numpy() for features in pair)
    return {
        "dit": lambda: PrecisionRecall(ADM).measure(*pair),
        NUMPY: lambda: originals.precision_recall(samples, known),
    }


def _precision_recall(pair: Pair) -> dict[str, Run]:
    rows: list[Tensor] = [features.rows("pool") for features in pair]

    def fidelity() -> tuple[float, float]:
        from torch_fidelity.metric_prc import calculate_precision_recall_part

        return calculate_precision_recall_part(rows[0], rows[1], originals.NEIGHBOURHOOD)

    return {"dit": lambda: PrecisionRecall(EXACT).measure(*pair), FIDELITY: fidelity}


def _digits(settings: Settings) -> Iterator[Row]:
    """Measure what it costs to describe the digits that a model makes, with the part that is written meanwhile.

    A round is one batch of each, for what a machine does meanwhile is more than the difference: many rounds tell.
    """
    pipeline = load_pipeline(MODEL, device=settings.device)
    described = DescribedImages(load_features("mnist", device=settings.device), pipeline.class_names)
    labels, sampler = balanced_labels(DIGITS, pipeline.num_classes), pipeline.sampler(seed=0)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as name:
            Drawn(labels, pipeline.image_size, sampler, {}, DIGITS, Path(name)).write(described.describe, [])

    def alone() -> None:
        sampler(labels, list(range(DIGITS)))

    case = f"{DIGITS} digits with features"
    settings.say(f"evaluate {case}")
    contenders = {"dit": _built(ours), "sampling alone": _built(alone)}
    yield from race("evaluate", case, contenders, replace(settings, budget=settings.budget / 5))
