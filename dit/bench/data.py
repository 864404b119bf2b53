"""`data`: training batches, 256 latents by default, from moments on the disk that are in the page cache.

`draws` is whole batches by one thread, against the same with every number drawn from a generator of its sample's own,
as sampling draws. `read` is reading alone, of float32 and of bfloat16 (`latents.storage`), against what other trainers
do with float32: one .npy file an image, or a safetensors file that is opened for every sample, both by two workers of a
DataLoader.
"""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch.utils.data import DataLoader, Dataset

from dit.bench.harness import Row, Run, race
from dit.bench.settings import Settings
from dit.data.request import Request
from dit.diffusion.process import drop_labels
from dit.files import write_json
from dit.latents.codec import Codec, load_codec
from dit.latents.dataset import LatentDataset
from dit.latents.read_ahead import Rows
from dit.latents.shards import INDEX_NAME, Identity, Index, write_part
from dit.rng import Purpose, normal, uniform
from dit.training.batch import BatchSource, Share

NUM_SAMPLES, PART_ROWS = 50_000, 1_000
NUM_ARRAYS = 10_000
"""Samples that have a file each: to remove more takes minutes."""
MOMENTS, LATENTS = (8, 32, 32), (4, 32, 32)
NUM_CLASSES, DROP_PROBABILITY = 1_000, 0.1
NUM_BATCHES, NUM_WORKERS = 32, 2


def run(settings: Settings) -> Iterator[Row]:
    """Measure both cases."""
    batch = settings.batch or 256
    settings.say(f"data, {NUM_SAMPLES} samples, batch {batch}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = {storage: _write_dataset(folder / storage, storage) for storage in ("float32", "bfloat16")}
        _write_arrays(folder / "arrays")
        dataset, part = stored["float32"], replace(settings, budget=settings.budget / 3)
        draws = {"dit": lambda: _by_block(dataset, batch, part), "by sample": lambda: _by_sample(dataset, batch, part)}
        yield from race("data", f"draws, batch {batch}, 1 thread", draws, part)
        for storage, latents in stored.items():
            read = {
                "dit": lambda latents=latents: _ahead(latents, batch),
                ".npy an image": lambda: _loaded(_Arrays(folder / "arrays"), batch),
                "safe_open a sample": lambda: _loaded(_Opened(dataset.folder), batch),
            }
            yield from race("data", f"read {storage}, {NUM_BATCHES} batches of {batch}", read, part)


def _by_block(dataset: LatentDataset, batch: int, settings: Settings) -> Run:
    source = BatchSource(
        dataset=dataset,
        codec=_codec(settings),
        num_classes=NUM_CLASSES,
        drop_probability=DROP_PROBABILITY,
        flip=False,  # flips are drawn, and half of the disk space is saved
        seed=0,
        device=settings.device,
        share=Share(batch),
    )
    steps = count()

    def make() -> None:
        step = next(steps)
        request = source.request(step, 0)
        source.make(step, 0, Rows(request, *dataset.get(request.indices, request.flips)))

    return _by_one_thread(make)


def _by_sample(dataset: LatentDataset, batch: int, settings: Settings) -> Run:
    """Return the same work by positions, a generator for each number or noise of a sample."""
    codec, device, batches = _codec(settings), settings.device, _batches(batch)

    def make() -> tuple[Any, ...]:
        positions = next(batches).tolist()
        draw, noise = (
            normal(0, purpose, positions, LATENTS).to(device) for purpose in (Purpose.LATENT_DRAW, Purpose.TRAIN_NOISE)
        )
        flips, dropped, u = (
            uniform(0, purpose, positions) for purpose in (Purpose.FLIP, Purpose.LABEL_DROP, Purpose.TIMESTEP)
        )
        moments, labels = dataset.get(positions)
        y = drop_labels(labels.to(device), NUM_CLASSES, probability=DROP_PROBABILITY, u=dropped)
        return codec.latents_from_moments(moments.to(device), draw), y, noise, flips, u

    return _by_one_thread(make)


def _by_one_thread(make: Run) -> Run:
    def alone() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        make()
        torch.set_num_threads(before)

    return alone


def _ahead(dataset: LatentDataset, batch: int) -> Run:
    requests = (Request(indices, np.zeros(batch, dtype=bool)) for indices in _batches(batch))

    def read() -> None:
        for _ in dataset.read(islice(requests, NUM_BATCHES)):
            pass

    return read


def _loaded(dataset: Dataset[Any], batch: int) -> Run:
    """Return the reading of batches by workers that run on: to start them is not counted, and they read none ahead."""
    options = {"num_workers": NUM_WORKERS, "persistent_workers": True, "multiprocessing_context": "fork"}
    loader = DataLoader(dataset, batch_sampler=_Sampler(batch), **options)

    def read() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # forks of this process need no threads
            for _ in loader:
                pass

    return read


class _Sampler:
    """The samples of the next batches, of others each time."""

    def __init__(self, batch: int) -> None:
        self._batches = _batches(batch)

    def __iter__(self) -> Iterator[list[int]]:
        return (indices.tolist() for indices in islice(self._batches, NUM_BATCHES))


class _Arrays(Dataset[Any]):
    """One .npy file an image, as fast-DiT keeps them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(np.load(self._folder / f"{index % NUM_ARRAYS}.npy")), index % NUM_CLASSES


class _Opened(Dataset[Any]):
    """Shards of which one is opened for every sample, as LightningDiT reads its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        number, row = divmod(index, PART_ROWS)
        with safe_open(self._folder / _part_name(number), framework="pt") as file:
            return file.get_slice("moments")[row, 0], file.get_slice("labels")[row]


def _codec(settings: Settings) -> Codec:
    """Return a codec of four Gaussian channels; only its draw is used, which is of any size."""
    return load_codec("mnist", settings.device)


def _batches(batch: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    while True:
        yield generator.integers(0, NUM_SAMPLES, batch)


def _write_dataset(folder: Path, storage: str) -> LatentDataset:
    folder.mkdir()
    identity = Identity(
        data="zeros", vae="zeros", flip=False, storage=storage, precision="float32", batch_size=PART_ROWS
    )
    entries = []
    for number, start in enumerate(range(0, NUM_SAMPLES, PART_ROWS)):
        rows = torch.arange(start, start + PART_ROWS)
        moments = torch.zeros(PART_ROWS, 1, *MOMENTS, dtype=getattr(torch, storage))
        path, fingerprint = folder / _part_name(number), identity.fingerprint
        entries.append(write_part(path, moments, rows % NUM_CLASSES, rows, fingerprint=fingerprint, skipped=[]))
    index = Index(
        fingerprint=identity.fingerprint,
        identity=identity,
        source="zeros",
        vae="zeros",
        image_size=8 * LATENTS[1],
        latents_shape=LATENTS,
        num_moments=MOMENTS[0],
        class_names=tuple(map(str, range(NUM_CLASSES))),
        parts=tuple(entries),
        skipped=(),
    )
    write_json(folder / INDEX_NAME, index.model_dump(mode="json"))
    return LatentDataset(folder)


def _part_name(number: int) -> str:
    return f"part-{number:05}.safetensors"


def _write_arrays(folder: Path) -> None:
    """Write files that take no space, and read them once: from then on they are in the page cache."""
    folder.mkdir()
    for number in range(min(NUM_ARRAYS, NUM_SAMPLES)):
        path = folder / f"{number}.npy"
        np.lib.format.open_memmap(path, "w+", np.float32, MOMENTS)
        path.read_bytes()
