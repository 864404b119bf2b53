"""Protocols by name: everything that decides a published figure but the samples and the reference.

| name | network and resizing | metrics |
| --- | --- | --- |
| adm | Inception, TensorFlow's bilinear | FID, sFID, IS in splits of 5,000, precision and recall in float16 |
| edm2 | the same, and DINOv2, PyTorch's bicubic unrounded | FID, FD-DINOv2 |
| dgm-eval | DINOv2, Pillow's bicubic | FD-DINOv2, density and coverage, AuthPct |
| torch-fidelity | Inception, TensorFlow's bilinear | FID, IS in ten shuffled splits, KID, precision and recall |
| clean | Inception, Pillow's bicubic in floating point | FID, KID |
| cmmd | CLIP, Pillow's bicubic | CMMD |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from dit.errors import ConfigError, did_you_mean
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.metrics.accuracy import ClassAccuracy
from dit.evaluation.metrics.authenticity import Authenticity
from dit.evaluation.metrics.cmmd import ClipDiscrepancy
from dit.evaluation.metrics.density_coverage import DensityCoverage
from dit.evaluation.metrics.frechet import FrechetDistance
from dit.evaluation.metrics.inception_score import InceptionScore
from dit.evaluation.metrics.kid import KernelDistance
from dit.evaluation.metrics.metric import Metric
from dit.evaluation.metrics.neighbours import ADM, EXACT
from dit.evaluation.metrics.precision_recall import PrecisionRecall
from dit.evaluation.networks import clip, dinov2, inception
from dit.evaluation.networks.network import LoadedNetwork, MetricNetwork
from dit.evaluation.networks.resize import (
    by_the_network,
    pillow_bicubic,
    pillow_bicubic_float,
    tensorflow_bilinear,
    torch_bicubic,
)

INCEPTION = MetricNetwork(
    "inception-2015-12-05", inception.WIDTHS, inception.SIZE, tensorflow_bilinear, inception.load_inception
)
INCEPTION_CLEAN = replace(INCEPTION, resize=pillow_bicubic_float)
DINOV2 = MetricNetwork("dinov2-vitl14", dinov2.WIDTHS, dinov2.SIZE, torch_bicubic, dinov2.load_dinov2)
DINOV2_PILLOW = replace(DINOV2, resize=pillow_bicubic)
CLIP = MetricNetwork("clip-vitl14-336", clip.WIDTHS, clip.SIZE, pillow_bicubic, clip.load_clip)

FID = FrechetDistance("fid", "pool")
SFID = FrechetDistance("sfid", "spatial")
FD_DINOV2 = FrechetDistance("fd_dinov2", "class_token")


@dataclass(frozen=True)
class Protocol:
    """How samples are measured."""

    name: str
    """Value of --protocol."""
    networks: tuple[MetricNetwork, ...]
    """What describes the images."""
    metrics: tuple[Metric, ...]
    """What is measured."""
    num: int = 50_000
    """Number of samples of published figures."""

    def with_accuracy(self, extractor: FeatureExtractor, class_names: Sequence[str] | None) -> "Protocol":
        """Return the protocol with one more figure: how many samples a classifier takes for what was asked.

        Args:
            extractor: the classifier.
            class_names: names of the classes that the samples' labels number; None: those of the classifier.

        Raises:
            ConfigError: the extractor tells no classes by name.
        """
        if (known := extractor.class_names) is None:
            raise ConfigError(
                f"--features: expected a classifier whose classes have names, found {extractor.name}; with --protocol "
                "it is for class accuracy"
            )

        def forward(images: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = extractor(images.byte()).logits
            assert logits is not None
            return {name: logits}

        name, loaded = extractor.name, LoadedNetwork(forward, extractor.weights_sha256)
        network = MetricNetwork(name, {name: len(known)}, None, by_the_network, lambda device: loaded)
        metric = ClassAccuracy(known, known if class_names is None else class_names, name)
        return replace(self, networks=(*self.networks, network), metrics=(*self.metrics, metric))

    def choose(self, names: Iterable[str] | None) -> "Protocol":
        """Return the protocol with the metrics that have a figure of these names, and their networks; None: all.

        Raises:
            ConfigError: it has no figure of a name.
        """
        figures = [name for metric in self.metrics for name in metric.names]
        names = figures if names is None else list(names)
        for name in names:
            if name not in figures:
                raise ConfigError(
                    f"--metrics: expected figures of protocol {self.name}, {', '.join(figures)}, found {name!r}."
                    f"{did_you_mean(name, figures)}"
                )
        metrics = tuple(metric for metric in self.metrics if set(names) & set(metric.names))
        features = {metric.features for metric in metrics}
        networks = tuple(network for network in self.networks if features & network.widths.keys())
        return replace(self, metrics=metrics, networks=networks)

    def width(self, features: str) -> int:
        """Return the width of features of a name."""
        return next(network.widths[features] for network in self.networks if features in network.widths)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("adm", (INCEPTION,), (FID, SFID, InceptionScore(), PrecisionRecall(ADM))),
        Protocol("edm2", (INCEPTION, DINOV2), (FID, FD_DINOV2)),
        Protocol("dgm-eval", (DINOV2_PILLOW,), (FD_DINOV2, DensityCoverage(features="class_token"), Authenticity())),
        Protocol(
            "torch-fidelity",
            (INCEPTION,),
            (FID, InceptionScore(split_size=None, shuffle=True), KernelDistance(), PrecisionRecall(EXACT)),
        ),
        Protocol("clean", (INCEPTION_CLEAN,), (FID, KernelDistance())),
        Protocol("cmmd", (CLIP,), (ClipDiscrepancy(),), num=30_000),
    )
}
