"""Headers of safetensors files: rows C8 and C9 (hostile files) and H4 (hostile index) of the fault matrix."""

import json
import pickle
import struct
import time
import tracemalloc

import pytest
import torch
from safetensors.torch import save_file

from dit.errors import DitError
from dit.zoo.folder.safetensors_file import TensorInfo, read_header, weight_files
from tests.zoo.conftest import CreatesFile


def write(path, header, data=b"", *, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def entry(start, stop, shape=None):
    return {"dtype": "F32", "shape": [(stop - start) // 4] if shape is None else shape, "data_offsets": [start, stop]}


def test_reads_what_the_library_writes(tmp_path):
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16), "empty": torch.zeros(0, 5)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"made": "here"})
    header = read_header(tmp_path / "x.safetensors")
    assert header.tensors == {
        "a": TensorInfo("F32", (2, 3), 0, 24),
        "b": TensorInfo("BF16", (4,), 0, 8),
        "empty": TensorInfo("F32", (0, 5), 0, 0),
    }
    assert header.metadata == {"made": "here"}


HOSTILE = {
    "length of 2^63": (b"{}", b"", 2**63),
    "length beyond the file": (b"{}", b"", 100),
    "not JSON": (b"{nonsense", b"", None),
    "nested JSON": (b'{"a":' + b"[" * 200_000, b"", None),
    "a list": (b"{}"[:0] + b"[1, 2]    ", b"", None),
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, b"\0" * 12, None),
    "hole": ({"a": entry(0, 4), "b": entry(8, 12)}, b"\0" * 12, None),
    "trailing bytes": ({"a": entry(0, 4)}, b"\0" * 9, None),
    "truncated": ({"a": entry(0, 8)}, b"\0" * 5, None),
    "duplicate names": (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b"\0" * 8,
        None,
    ),
    "size against shape": ({"a": entry(0, 8, [3])}, b"\0" * 8, None),
    "overflowing shape": ({"a": entry(0, 0, [2**62, 2**62])}, b"", None),
    "negative size": ({"a": entry(0, 4, [-1])}, b"\0" * 4, None),
    "unknown type": ({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4, None),
    "offsets of text": ({"a": {"dtype": "F32", "shape": [1], "data_offsets": "04"}}, b"\0" * 4, None),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", None),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_c9_hostile_headers_are_refused_in_bounded_time_and_memory(tmp_path, fault):
    header, data, length = HOSTILE[fault]
    path = write(tmp_path / "x.safetensors", header, data, length=length)
    tracemalloc.start()
    begun = time.perf_counter()
    with pytest.raises(DitError, match="it is damaged or is no safetensors file; ") as caught:
        read_header(path)
    assert time.perf_counter() - begun < 1
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()
    assert "x.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 5, b"\0" * 8])
def test_c9_short_files_are_refused(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(DitError, match="it is damaged"):
        read_header(tmp_path / "x.safetensors")


def test_c9_a_huge_header_is_refused_without_reading_it(tmp_path):
    path = write(tmp_path / "x.safetensors", b"{}", length=2**30)
    with open(path, "r+b") as file:
        file.truncate(2**31)  # sparse
    with pytest.raises(DitError, match="header too large"):
        read_header(path)


@pytest.mark.parametrize("writer", ["torch", "pickle 2", "pickle 4", "pickle 5"])
def test_c8_a_pickle_named_safetensors_is_refused_and_does_not_run(tmp_path, writer):
    path, sentinel = tmp_path / "x.safetensors", tmp_path / "sentinel"
    if writer == "torch":
        torch.save({"a": CreatesFile(sentinel)}, path)
    else:
        path.write_bytes(pickle.dumps({"a": CreatesFile(sentinel)}, protocol=int(writer[-1])))
    with pytest.raises(DitError, match="found a pickle"):
        read_header(path)
    assert not sentinel.exists()


def test_a_header_whose_length_starts_like_a_pickle_is_read(tmp_path):
    raw = json.dumps({"a": entry(0, 4)}).encode().ljust(0x0280)
    path = write(tmp_path / "x.safetensors", raw, b"\0" * 4)
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert list(read_header(path).tensors) == ["a"]


@pytest.fixture
def sharded(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_index(tmp_path, weight_map)
    return tmp_path, weight_map


def write_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("name", ["../../x", "../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", 3])
def test_h4_an_index_that_leaves_its_folder_is_refused(sharded, name):
    folder, weight_map = sharded
    write_index(folder, weight_map | {"b": name})
    with pytest.raises(DitError, match=r"expected a \.safetensors file of the same folder"):
        weight_files(folder)


@pytest.mark.parametrize(
    "change", [{"c": "model-00001-of-00002.safetensors"}, {"b": "model-00001-of-00002.safetensors"}]
)
def test_index_and_shards_must_agree(sharded, change):
    folder, weight_map = sharded
    write_index(folder, weight_map | change)
    with pytest.raises(DitError, match=f"differ in {next(iter(change))}"):
        weight_files(folder)


def test_a_missing_shard_is_named(sharded):
    folder, weight_map = sharded
    (folder / weight_map["b"]).unlink()
    with pytest.raises(DitError, match=r"model-00002-of-00002\.safetensors: expected a safetensors file"):
        weight_files(folder)


def test_h3_a_folder_with_only_bin_files_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(DitError, match=r"found only pytorch_model\.bin, which is a pickle"):
        weight_files(tmp_path)
