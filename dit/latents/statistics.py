"""Mean and deviation of each latent channel over a data set, in place of those that an autoencoder was published with.

Of a draw z = mean + sd noise they are known without drawing: E z = E mean, Var z = Var mean + E sd^2.

N samples in V views; C latent channels, h x w positions.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit.errors import DitError
from dit.files import cache_folder, read_json, write_json
from dit.latents.codec import LOG_VAR_RANGE, Codec
from dit.latents.dataset import LatentDataset
from dit.latents.shards import INDEX_NAME, STATISTICS_NAME
from dit.schema import Section
from dit.validation import validate

CHUNK_BYTES = 2**26
NUM_DIGITS = 6
"""Significant digits that are kept: no data set decides more, and sums differ beyond them from machine to machine."""


class Statistics(Section):
    """The content of statistics.json, beside the index of the latents; of latents of others it is among the caches."""

    fingerprint: str
    """Of the latents that were measured."""
    mean: tuple[float, ...]
    """Mean of each channel over all samples, views and positions."""
    std: tuple[float, ...]
    """Standard deviation of each channel."""


def normalise_measured(codec: Codec, dataset: LatentDataset, known: tuple[Tensor, Tensor] | None = None) -> None:
    """Normalise by the statistics of the training set: those beside its index, or measured now and left there.

    Args:
        codec: gets the normalisation.
        dataset: training set.
        known: mean and standard deviation (C,) that others measured.

    Raises:
        DitError: the file is of other latents or damaged, or a channel is constant.
    """
    if known is not None:
        codec.with_normalisation((1 / known[1]).tolist(), known[0].tolist())
        return
    statistics = read_statistics(dataset) or write_statistics(dataset)
    codec.with_normalisation([1 / value for value in statistics.std], statistics.mean)


def read_statistics(dataset: LatentDataset) -> Statistics | None:
    """Read the statistics beside a data set's index; None where there are none.

    Raises:
        DitError: they are of other latents, or damaged.
    """
    path = _path(dataset)
    if not path.is_file():
        return None
    statistics = validate(Statistics, read_json(path), origin=str(path))
    expected, num_channels = dataset.fingerprint, dataset.latents_shape[0]
    if statistics.fingerprint != expected or {len(statistics.mean), len(statistics.std)} != {num_channels}:
        raise DitError(
            f"{path}: expected statistics of {num_channels} channels of the latents with fingerprint {expected}, found "
            f"{len(statistics.std)} of {statistics.fingerprint}; remove the file to measure anew"
        )
    _check(statistics, str(path))
    return statistics


def write_statistics(dataset: LatentDataset) -> Statistics:
    """Measure a data set, and write its statistics beside its index.

    Raises:
        DitError: a channel is constant, or a moment is not finite.
    """
    mean, std = measure_statistics(dataset)
    mean, std = (tuple(float(f"{value:.{NUM_DIGITS}g}") for value in values.tolist()) for values in (mean, std))
    statistics = Statistics(fingerprint=dataset.fingerprint, mean=mean, std=std)
    _check(statistics, str(dataset.folder))
    write_json(_path(dataset), statistics.model_dump(mode="json"))
    return statistics


def measure_statistics(dataset: LatentDataset) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of z over a data set, both (C,) float64.

    The moments are read once, a few at a time, in their order.
    """
    num_channels, num_moments = dataset.latents_shape[0], dataset.moments_shape[0]
    chunk = max(1, CHUNK_BYTES // (4 * int(np.prod(dataset.moments_shape))))
    views = (False, True) if dataset.index.identity.flip else (False,)
    count, mean, squares = 0, torch.zeros(num_channels).double(), torch.zeros(num_channels).double()
    for start in range(0, len(dataset), chunk):
        rows = np.arange(start, min(start + chunk, len(dataset)))
        for view in views:
            moments = dataset.get(rows, np.full(len(rows), view))[0].double()  # (n, M, h, w)
            z, noise = moments[:, :num_channels], torch.zeros(num_channels).double()
            if num_moments > num_channels:
                noise = moments[:, num_channels:].clamp(*LOG_VAR_RANGE).exp().sum(dim=(0, 2, 3))
            here = z.numel() // num_channels
            # Two sums of squares about their own means, joined: Chan et al., "Updating formulae", 1979, equation 2.1.
            own = z.mean(dim=(0, 2, 3))
            squares += (z - own[:, None, None]).square().sum(dim=(0, 2, 3)) + noise
            squares += (own - mean).square() * (count * here / (count + here))
            mean += (own - mean) * (here / (count + here))
            count += here
    return mean, (squares / max(1, count)).sqrt()


def _path(dataset: LatentDataset) -> Path:
    if dataset.fingerprint == dataset.index.fingerprint and (dataset.folder / INDEX_NAME).is_file():
        return dataset.folder / STATISTICS_NAME
    return cache_folder("latents") / f"{dataset.fingerprint[:24]}-{STATISTICS_NAME}"


def _check(statistics: Statistics, where: str) -> None:
    for channel, value in enumerate(statistics.std):
        if not value > 0:
            raise DitError(
                f"{where}: expected latents that differ in every channel, found deviation {value} in {channel}; give "
                "latents.scale instead of latents.normalise measured"
            )
