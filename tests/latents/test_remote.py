"""Latents at an address, of a file system in memory and of the Hub's double."""

import re
import subprocess
import sys

import fsspec
import numpy as np
import pytest
import torch

from dit.data.config import DataConfig
from dit.errors import ConfigError, DitError
from dit.latents.config import LatentsConfig
from dit.latents.remote import NUM_SPARE, Address, LocalParts
from dit.latents.stored import open_stored
from tests.hub_double import FILTERED, TOKEN, connect
from tests.latents.caches import random_moments, write_cache, write_splits

VAE = "a" * 64
FILES = fsspec.filesystem("memory")


@pytest.fixture
def folder(tmp_path):
    return write_splits(tmp_path / "out", VAE)


@pytest.fixture
def url(folder):
    FILES.put(str(folder), "/bucket/latents", recursive=True)
    yield "memory://bucket/latents"
    FILES.rm("/bucket", recursive=True)


@pytest.fixture
def shared(hub, folder):
    """The Hub, where the latents are."""
    content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.add("someone/latents", content)
    return hub


def stored(source, tmp_path, *, limit=1.0, **options):
    latents = LatentsConfig(cache=str(tmp_path / "copies"), cache_limit=limit)
    return open_stored(DataConfig(source=str(source), image_size=8, **options), latents)


def copies(tmp_path):
    return sorted(path.name for path in (tmp_path / "copies").rglob("part-*.safetensors"))


def part_bytes(folder):
    return max(path.stat().st_size for path in folder.rglob("part-*.safetensors"))


def test_parts_are_fetched_when_they_are_needed(folder, url, tmp_path):
    local, remote = stored(folder, tmp_path), stored(url, tmp_path)
    assert copies(tmp_path) == []
    assert (len(remote.train), len(remote.val)) == (11, 5)
    assert (remote.train.fingerprint, remote.train.class_names) == (local.train.fingerprint, ("a", "b", "c"))
    for split, rows in (("train", [5, 10, 6, 5]), ("val", [0])):
        ours, theirs = (getattr(both, split).get(rows) for both in (local, remote))
        assert all(map(torch.equal, ours, theirs))
    assert copies(tmp_path) == ["part-00000.safetensors", "part-00001.safetensors", "part-00002.safetensors"]
    flips = np.array([True, False])
    assert torch.equal(local.train.get([1, 9], flips)[0], remote.train.get([1, 9], flips)[0])


def test_copies_are_used_again(url, tmp_path):
    stored(url, tmp_path).train.get(range(11))
    for path in FILES.find("/bucket"):
        if path.endswith(".safetensors"):
            FILES.rm(path)
    assert len(stored(url, tmp_path).train.get(range(11))[1]) == 11


def test_the_cache_of_one_split_is_an_address_too(url, tmp_path):
    single = stored(f"{url}/train-{'a' * 24}/", tmp_path)
    assert (len(single.train), len(single.val)) == (11, 0)


def test_copies_keep_to_their_limit_and_the_oldest_go_first(tmp_path):
    folder = write_cache(tmp_path / "ours", random_moments(40), channels=4, vae=VAE)
    FILES.put(str(folder), "/many", recursive=True)
    size = part_bytes(folder)
    parts = LocalParts(Address("memory://many"), "", tmp_path / "copies", 3 * size + size // 2)
    whole = stored(folder, tmp_path).train
    opened = []
    for number in (0, 1, 2, 0, 3, 4, 0, 9, 5):
        part = parts.open(number)
        opened.append((number, part))
        assert len(copies(tmp_path)) <= 3
    assert copies(tmp_path) == [f"part-{number:05}.safetensors" for number in (0, 5, 9)]
    for number, part in opened:  # of removed files too
        part.read(values := np.empty(4 * 8 * 4 * 4, np.uint8), 3, 0)
        assert (values.view(np.float32) == whole.get([4 * number + 3])[0].flatten().numpy()).all()
    FILES.rm("/many", recursive=True)


def test_a_limit_that_is_too_small_for_the_parts_in_use_is_refused(tmp_path):
    folder = write_cache(tmp_path / "ours", random_moments(80), channels=4, vae=VAE)
    FILES.put(str(folder), "/many", recursive=True)
    size = part_bytes(folder)
    with pytest.raises(
        ConfigError, match=r"latents\.cache_limit: expected at least .* \(GB\) for the 20 parts .* shards"
    ):
        stored("memory://many", tmp_path, limit=19 * size / 1e9)
    num_open = 3 + NUM_SPARE
    options = {"shuffle": "shards", "shuffle_window": 3}
    with pytest.raises(ConfigError, match=rf"for the {num_open} parts .* lower data\.shuffle_window"):
        stored("memory://many", tmp_path, limit=(num_open - 1) * size / 1e9, **options)
    stored("memory://many", tmp_path, limit=(num_open + 0.5) * size / 1e9, **options)
    FILES.rm("/many", recursive=True)


@pytest.mark.parametrize("change", ["flipped bit", "cut short"])
def test_d6_a_damaged_part_names_both_hashes_and_leaves_nothing(url, tmp_path, change):
    (path,) = [path for path in FILES.find("/bucket") if "train" in path and path.endswith("1.safetensors")]
    whole = FILES.cat(path)
    FILES.pipe(path, whole[:-1] + bytes([whole[-1] ^ 1]) if change == "flipped bit" else whole[:-8])
    train = stored(url, tmp_path).train
    train.get([0])
    words = rf"memory://bucket/latents/train-a+/part-00001\.safetensors: expected sha256 {'[0-9a-f]' * 64}, found "
    with pytest.raises(DitError, match=words + r"[0-9a-f]{64}, twice"):
        train.get([5])
    assert copies(tmp_path) == ["part-00000.safetensors"]
    assert list((tmp_path / "copies").rglob(".tmp-*")) == []
    FILES.pipe(path, whole)
    assert train.get([5])[1].tolist() == [2]


def test_parts_with_names_of_other_places_are_refused(url, tmp_path):
    (path,) = [path for path in FILES.find("/bucket") if "train" in path and path.endswith("index.json")]
    FILES.pipe(path, FILES.cat(path).replace(b"part-00001", b"../../evil"))
    with pytest.raises(DitError, match=r"expected parts part-NUMBER\.safetensors, found '\.\./\.\./evil"):
        stored(url, tmp_path)


READ = """
import sys
from dit.data.config import DataConfig
from dit.latents.config import LatentsConfig
from dit.latents.stored import open_stored

latents = LatentsConfig(cache=sys.argv[2], cache_limit=1.0)
train = open_stored(DataConfig(source=sys.argv[1], image_size=8), latents).train
print(train.get(range(11))[0].sum().item())
"""


def test_several_processes_share_the_copies(folder, tmp_path):
    argv = [sys.executable, "-c", READ, f"file://{folder}", tmp_path / "copies"]
    processes = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    expected = f"{stored(folder, tmp_path).train.get(range(11))[0].sum().item()}\n"
    assert [process.communicate()[0] for process in processes] == [expected] * 2
    assert copies(tmp_path) == [f"part-0000{number}.safetensors" for number in range(3)]


@pytest.mark.filterwarnings(FILTERED)
def test_latents_on_the_hub_stay_at_their_commit(shared, folder, tmp_path):
    remote = stored("hf://datasets/someone/latents", tmp_path)
    repository = shared.repositories["someone/latents"]
    files = repository.commits[repository.refs["main"]].values()
    repository.commit({"README.md": next(iter(files))})  # H8: main moves on
    rows = [5, 10, 6]
    assert all(map(torch.equal, remote.train.get(rows), stored(folder, tmp_path).train.get(rows)))
    for request in shared.requests:  # H6
        assert request.authorization is None or request.host == f"127.0.0.1:{shared.port}"


def refuse_all(status, code=""):
    def fault(handler):
        handler.refuse(status, code)
        return True

    return fault


@pytest.mark.filterwarnings(FILTERED)
def test_h2_faults_of_the_hub_are_one_line_each(shared, tmp_path, monkeypatch):
    from huggingface_hub import constants

    def message_of(source):
        with pytest.raises(DitError) as caught:
            stored(source, tmp_path)
        assert "\n" not in str(caught.value)
        assert TOKEN not in str(caught.value)
        return str(caught.value)

    url = "hf://datasets/someone/latents"
    assert "there is no such repository that your login may see" in message_of("hf://datasets/someone/latentz")
    assert "it has no revision 'v9'" in message_of(f"{url}@v9")
    assert "expected latents, found nothing there" in message_of(f"{url}/nowhere")
    shared.faults.append(refuse_all(401))
    assert "the Hub does not accept your token" in message_of(url)
    shared.faults[:] = [refuse_all(500)]
    assert "the Hub failed with status 500" in message_of(url)
    shared.faults.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE keeps the Hub from being asked" in message_of(url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    connect(monkeypatch, "http://127.0.0.1:9")
    assert "the Hub can't be reached" in message_of(url)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("memory://nothing/here", "memory://nothing/here: expected latents, found nothing there"),
        ("nothing://here", "nothing://here: Protocol not known"),
    ],
)
def test_wrong_addresses_are_named(tmp_path, source, problem):
    with pytest.raises(DitError, match=re.escape(problem)):
        stored(source, tmp_path)


def test_a_file_system_without_its_package_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"s3://bucket/x: Install s3fs to access S3"):
        stored("s3://bucket/x", tmp_path)


def test_an_address_without_latents_is_refused(tmp_path):
    FILES.pipe("/images/cats/1.png", b"x")
    with pytest.raises(ConfigError, match="expected latents that `dit encode` wrote, found none there"):
        stored("memory://images", tmp_path)
    FILES.rm("/images", recursive=True)
