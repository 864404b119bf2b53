import os
import resource

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open

from dit.data.request import Request
from dit.errors import DitError
from dit.files import write_json
from dit.latents import shards
from dit.latents.dataset import SPARE_FILES, LatentDataset
from dit.latents.shards import INDEX_NAME, Identity, Index, Part, write_part

SIZES = (5, 1, 4)
FINGERPRINT = "f" * 64


def all_moments() -> torch.Tensor:
    return torch.randn(sum(SIZES), 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))


def write(folder, moments=None, fingerprint=FINGERPRINT, storage="float32"):
    """Write a cache by hand: three parts, both views, labels 0, 1, 2, ... modulo 3."""
    folder.mkdir()
    moments = all_moments() if moments is None else moments
    entries, start = [], 0
    for number, size in enumerate(SIZES):
        rows = torch.arange(start, start + size)
        path = folder / f"part-{number:05}.safetensors"
        entries.append(write_part(path, moments[rows], rows % 3, rows, fingerprint=fingerprint, skipped=[]))
        start += size
    identity = Identity(data="d", vae="v", flip=True, storage=storage, precision="float32", batch_size=4)
    index = Index(
        fingerprint=FINGERPRINT,
        identity=identity,
        source="photos (train)",
        vae="mnist",
        image_size=12,
        latents_shape=(2, 3, 3),
        num_moments=4,
        class_names=("a", "b", "c"),
        parts=tuple(entries),
        skipped=(),
    )
    write_json(folder / INDEX_NAME, index.model_dump(mode="json"))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "cache")


def test_batches_are_gathered_by_index_and_view(folder):
    dataset = LatentDataset(folder)
    indices = np.array([9, 0, 5, 4, 5, 9, 6, 3])
    flips = np.array([True, False, True, True, False, False, False, True])
    moments, labels = dataset.get(indices, flips)
    expected = all_moments()[torch.from_numpy(indices), torch.from_numpy(flips.astype(int))]
    assert torch.equal(moments, expected)
    assert labels.tolist() == (indices % 3).tolist()
    assert labels.dtype == torch.int64
    assert torch.equal(dataset.get([3])[0], all_moments()[[3], 0])


def test_some_of_the_samples_are_a_data_set_of_their_own(folder):
    whole = LatentDataset(folder)
    rows = np.array([0, 2, 3, 5, 8, 9])
    some = whole.take(rows)
    assert (len(some), some.labels.tolist(), some.part_sizes.tolist()) == (6, (rows % 3).tolist(), [3, 1, 2])
    again = some.take(np.array([4, 1]))
    moments, labels = again.get([1, 0], np.array([True, False]))
    assert torch.equal(moments, all_moments()[[2, 8], [1, 0]])
    assert labels.tolist() == [2, 2]
    assert (len(whole), whole.part_sizes.tolist()) == (10, list(SIZES))
    assert len({data.fingerprint for data in (whole, some, again, whole.take(np.arange(6)))}) == 4
    assert some.fingerprint == LatentDataset(folder).take(rows).fingerprint


def test_parts_that_are_opened_when_they_are_read_give_the_same(folder):
    dataset, indices, flips = LatentDataset(folder), np.array([9, 0, 5, 5]), np.array([True, False, True, False])
    one_by_one = LatentDataset(folder, open_part=dataset._part)
    for found, expected in zip(one_by_one.get(indices, flips), dataset.get(indices, flips), strict=True):
        assert torch.equal(found, expected)


def test_samples_of_open_parts_are_read_without_them(folder, monkeypatch):
    dataset = LatentDataset(folder)
    monkeypatch.setattr(Part, "read", None)  # what the slow way calls, sample by sample
    indices = np.array([9, 0, 5])
    moments, labels = dataset.get(indices)
    assert torch.equal(moments, all_moments()[torch.from_numpy(indices), 0])
    assert labels.tolist() == [0, 0, 2]


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_batches_are_read_ahead_in_the_type_of_storage(tmp_path, storage):
    moments = all_moments().to(getattr(torch, storage))
    dataset = LatentDataset(write(tmp_path / "cache", moments, storage=storage))
    requests = [Request(np.array(rows), np.array(rows) % 2 == 0) for rows in ([9, 0, 5], [4, 4], [1], [8, 7, 6, 0])]
    found = list(dataset.read(iter(requests)))
    for rows, request in zip(found, requests, strict=True):
        assert torch.equal(rows.moments, moments[request.indices, request.flips.astype(int)])
        assert rows.labels.tolist() == (request.indices % 3).tolist()
    assert dataset.get([1])[0].dtype == torch.float32


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf, -torch.inf])
def test_latents_that_are_not_finite_name_file_and_index(tmp_path, value, storage):
    """D9."""
    moments = all_moments().to(getattr(torch, storage))
    large, small = torch.finfo(moments.dtype).max, torch.finfo(moments.dtype).min
    moments[2, 0, :3] = torch.tensor([large, small, -0.0]).view(3, 1, 1)
    moments[2, 1] = large  # finite, but not their sum
    moments[8, 1, 3, 2, 2] = value
    dataset = LatentDataset(write(tmp_path / "cache", moments, storage=storage))
    assert len(dataset.get([8, 2, 2], np.array([False, True, False]))[0]) == 3
    with pytest.raises(DitError, match=r"part-00002\.safetensors: expected finite latents, .* at index 8;"):
        dataset.get([2, 8, 1], np.array([True, True, True]))


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_part_cut_short_is_named_with_both_sizes(folder, length):
    """D5."""
    path = folder / "part-00001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(
        DitError, match=rf"part-00001\.safetensors: expected {len(whole)} bytes, found {len(whole[:length])}"
    ):
        LatentDataset(folder)
    path.unlink()
    with pytest.raises(DitError, match=r"part-00001\.safetensors: .* found 0"):
        LatentDataset(folder)


def test_a_part_cut_short_after_it_was_opened_is_named(folder):
    dataset, path = LatentDataset(folder), folder / "part-00002.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(DitError, match=r"part-00002\.safetensors: expected 144 bytes at byte \d+, found \d+"):
        dataset.get([9], np.array([True]))


def test_files_are_open_as_long_as_the_data_set(folder):
    before = os.listdir("/dev/fd")
    dataset = LatentDataset(folder)
    assert len(os.listdir("/dev/fd")) == len(before) + len(SIZES)
    del dataset
    assert os.listdir("/dev/fd") == before


def test_more_files_may_be_open_than_the_system_lets_by_itself(folder):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        LatentDataset(folder)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (SPARE_FILES + len(SIZES), limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_part_that_is_replaced_while_it_is_read_is_read_once_more(folder, monkeypatch):
    """As by the process that encodes it: libraries open a file more than once, and mix what they find."""
    path, opens = folder / "part-00000.safetensors", []
    newer = path.read_bytes()
    path.write_bytes(b"older")

    def replaced_then_open(*arguments, **options):
        opens.append(arguments)
        if len(opens) == 1:
            (folder / "newer").write_bytes(newer)
            (folder / "newer").rename(path)
            raise SafetensorError("mixed")
        return safe_open(*arguments, **options)

    monkeypatch.setattr(shards, "safe_open", replaced_then_open)
    assert shards.read_part(path, fingerprint=FINGERPRINT).labels.tolist() == [0, 1, 2, 0, 1]
    assert len(opens) == 2


def test_parts_of_another_shape_or_type_are_refused(tmp_path):
    write(tmp_path / "cache", all_moments().half(), storage="float32")
    with pytest.raises(DitError, match=r"part-00000\.safetensors: expected moments .*float32.*, found .*float16"):
        LatentDataset(tmp_path / "cache")


def test_a_damaged_header_is_refused(folder):
    path = folder / "part-00000.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    with pytest.raises(DitError, match=r"part-00000\.safetensors: expected a part of cached latents"):
        LatentDataset(folder)


def test_parts_of_other_latents_are_refused(tmp_path):
    """D8."""
    write(tmp_path / "cache", fingerprint="0" * 64)
    with pytest.raises(DitError, match=r"fingerprint ffff.*, found 0000"):
        LatentDataset(tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "found nothing there"),
        ("{", "expected JSON"),
        ("{}", "expected cached latents of format_version 1, found None"),
        ('{"format_version": 1, "parts": 3}', "index.json: .*remove the folder"),
    ],
)
def test_a_damaged_index_is_refused(folder, content, problem):
    (folder / "index.json").unlink()
    if content is not None:
        (folder / "index.json").write_text(content)
    with pytest.raises(DitError, match=problem):
        LatentDataset(folder)
