"""Latents of ImageNet's size, in files that take no space: what an index, an order and batches cost (-m slow -s)."""

import json
import resource
import struct
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dit.data.order import Window, positions_to_indices
from dit.data.request import Request
from dit.files import write_json
from dit.latents.dataset import LatentDataset
from dit.latents.shards import INDEX_NAME, Identity, Index, PartEntry

pytestmark = pytest.mark.slow

NUM_IMAGES, PART_ROWS, MOMENTS = 1_281_167, 1024, (8, 32, 32)
BATCH, NUM_BATCHES = 256, 200


@dataclass
class Cost:
    """What a stretch of code took."""

    name: str

    def __enter__(self) -> "Cost":
        tracemalloc.start()
        self.resident = _peak()
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self.start
        self.kept, self.peak = (number / 1e6 for number in tracemalloc.get_traced_memory())
        tracemalloc.stop()
        grown = (_peak() - self.resident) / 1e3  # with pages of mapped files and torch's memory
        print(
            f"\n{self.name}: {seconds:.2f} s, {self.peak:.0f} MB at most, {self.kept:.0f} kept, rss +{grown:.0f}",
            end="",
        )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KB


def write_sparse_part(path: Path, start: int, num_samples: int, fingerprint: str) -> PartEntry:
    shapes = {
        "moments": ("BF16", (num_samples, 2, *MOMENTS), 2),
        "labels": ("I64", (num_samples,), 8),
        "rows": ("I64", (num_samples,), 8),
        "skipped": ("U8", (2,), 1),
    }
    header: dict[str, object] = {"__metadata__": {"fingerprint": fingerprint}}
    end, places = 0, {}
    for name, (dtype, shape, width) in shapes.items():
        places[name], end = end, end + width * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [places[name], end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    first = 8 + len(encoded)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(first + end)
        file.seek(first + places["labels"])
        file.write((np.arange(start, start + num_samples) // (NUM_IMAGES // 1000 + 1)).tobytes())
        file.seek(first + places["rows"])
        file.write(np.arange(start, start + num_samples).tobytes())
        file.seek(first + places["skipped"])
        file.write(b"[]")
    return PartEntry(file=path.name, num_samples=num_samples, num_bytes=first + end, sha256="0" * 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latents")
    identity = Identity(data="sparse", vae="none", flip=True, storage="bfloat16", precision="float32", batch_size=32)
    starts = range(0, NUM_IMAGES, PART_ROWS)
    parts = tuple(
        write_sparse_part(
            folder / f"part-{i:05}.safetensors", start, min(PART_ROWS, NUM_IMAGES - start), identity.fingerprint
        )
        for i, start in enumerate(starts)
    )
    index = Index(
        fingerprint=identity.fingerprint,
        identity=identity,
        source="sparse",
        vae="none",
        image_size=256,
        latents_shape=(4, 32, 32),
        num_moments=8,
        class_names=tuple(map(str, range(1000))),
        parts=parts,
        skipped=(),
    )
    write_json(folder / INDEX_NAME, index.model_dump(mode="json"))
    gigabytes = sum(part.num_bytes for part in parts) / 1e9
    print(f"\n{NUM_IMAGES} images x 2 in {len(parts)} parts, {gigabytes:.1f} GB that take no space", end="")
    return folder


def test_an_index_of_a_million_images_opens_in_little_memory(folder):
    with Cost("index and all parts") as cost:
        dataset = LatentDataset(folder)
    assert len(dataset) == NUM_IMAGES
    assert cost.kept < 50  # 8 bytes an image for its place and its label, 16 for both, and a few KB a part


@pytest.mark.parametrize("shuffle", ["full", "shards"])
def test_an_epoch_of_2_56_million_is_put_in_order_in_50_megabytes(folder, shuffle):
    sizes = (PART_ROWS,) * 2500
    window = Window(sizes, num_open=64) if shuffle == "shards" else None
    with Cost(f"order of 2.56 million, {shuffle}") as cost:
        first = positions_to_indices(np.arange(BATCH), sum(sizes), seed=0, window=window)
    assert len(set(first.tolist())) == BATCH
    assert cost.peak < 50


@pytest.mark.parametrize("shuffle", ["full", "shards"])
def test_batches_are_read_without_memory_that_grows(folder, shuffle):
    dataset = LatentDataset(folder)
    window = Window(tuple(dataset.part_sizes.tolist()), num_open=64) if shuffle == "shards" else None
    positions = np.arange(NUM_BATCHES * BATCH).reshape(NUM_BATCHES, BATCH)
    order = [positions_to_indices(batch, NUM_IMAGES, seed=0, window=window) for batch in positions]
    requests = (Request(indices, indices % 2 == 0) for indices in order)
    with Cost(f"{NUM_BATCHES} batches of {BATCH}, {shuffle}") as cost:
        for indices, rows in zip(order, dataset.read(requests), strict=True):
            assert rows.labels.tolist() == (indices // (NUM_IMAGES // 1000 + 1)).tolist()
    assert cost.peak < 20  # a batch is 4 MB in bfloat16, and torch's tensors are not traced
