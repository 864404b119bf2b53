"""How good samples of the averaged weights are while they are trained, by the recipe's section `evaluation`.

A sample's noise depends on its position alone, so that the samples are those of `dit evaluate`, up to the precision
that the run computes in. All processes take batches in turn, in parts that lie in the run folder meanwhile.

B images of a batch.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dit.config import Recipe
from dit.data.images import ImageSource, open_images
from dit.diffusion.process import Process
from dit.errors import ConfigError
from dit.evaluation.evaluate import Evaluated, draw_share, evaluate
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.features import load_features
from dit.launcher import Share
from dit.sampling.sampler import sample
from dit.training.batch import BatchSource
from dit.training.ranks.processes import Processes


@dataclass(frozen=True)
class Quality:
    """Measures the samples of networks."""

    recipe: Recipe
    """Its sections `sampling` and `evaluation` say what is drawn and measured."""
    process: Process
    """The process that the network learns."""
    source: BatchSource
    """What it learns from: codec, classes and shape of the latents."""
    processes: Processes
    """Who takes part."""
    extractor: FeatureExtractor
    """Describes images."""
    reference: ImageSource
    """Held-out images."""

    def measure(self, network: nn.Module, folder: Path) -> dict[str, float]:
        """Return the Frechet distance, precision and recall, and class accuracy where the features know the classes.

        Args:
            network: to be measured; the same in every process.
            folder: where parts lie meanwhile; those of an evaluation that was interrupted are made again.

        Returns:
            The figures in the main process, nothing in the others.

        Raises:
            DitError: the network's outputs are not finite.
        """
        processes, names = self.processes, self.source.dataset.class_names if self.source.num_classes else ()
        what = Evaluated(_Sampler(network, self), self.recipe.evaluation, self.extractor, names, self.reference)
        processes.on_main(lambda: shutil.rmtree(folder, ignore_errors=True))
        draw_share(what, folder, Share(processes.rank, processes.count))
        processes.sum(torch.zeros(1, device=processes.device))  # until all have drawn theirs
        found = processes.on_main(lambda: evaluate(what, folder))
        processes.on_main(lambda: shutil.rmtree(folder, ignore_errors=True))
        if found is None:
            return {}
        others = {"precision": found.precision, "recall": found.recall, "accuracy": found.accuracy}
        known = {name: value for name, value in others.items() if value is not None}
        return {"frechet_distance": found.frechet_distance, **known}


def create_quality(recipe: Recipe, process: Process, source: BatchSource, processes: Processes) -> Quality | None:
    """Open what the evaluations of a run need; None where there are none.

    Raises:
        ConfigError: no feature extractor is known, or there are no held-out images.
    """
    if not recipe.train.evaluate_every:
        return None
    features = recipe.evaluation.features_for(recipe.data.source)
    if features is None:
        raise ConfigError("train.evaluate_every: expected evaluation.features, which measure samples, found none")
    reference = open_images(recipe.data, "val", channels=source.codec.describe().image_channels)
    return Quality(recipe, process, source, processes, load_features(features, device=processes.device), reference)


class _Sampler:
    """Draws images and counts the network's calls."""

    def __init__(self, network: nn.Module, quality: Quality) -> None:
        self.network, self.quality, self.num_calls = network, quality, 0

    def __call__(self, labels: Tensor, positions: Sequence[int], /) -> Tensor:
        """Return images (B, C, H, W) uint8 for labels (B,) int64 at B global sample positions."""
        quality = self.quality
        with quality.processes.autocast():
            drawn = sample(
                self.network,
                quality.process,
                labels.to(quality.processes.device),
                quality.source.dataset.latents_shape,
                sampling=quality.recipe.sampling,
                seed=quality.recipe.evaluation.seed,
                positions=positions,
            )
        self.num_calls += drawn.num_calls
        return quality.source.codec.decode(drawn.latents)
