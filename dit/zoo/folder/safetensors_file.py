"""What a safetensors file says it holds, checked before a tensor is touched.

A file is an 8-byte little-endian header length, a JSON header `{name: {dtype, shape, data_offsets}}` and the data.
The safetensors library rejects truncation, overlaps and holes, but accepts duplicate names; here the whole header is
checked with bounded memory, and every error names the file.
"""

import json
import math
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dit.errors import DitError
from dit.files import PICKLE_SUFFIXES, read_json

MAX_HEADER_BYTES = 16 * 2**20  # a DiT-XL header is 30 kB

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip

SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")


@dataclass(frozen=True)
class TensorInfo:
    """One entry of a header."""

    dtype: str
    """The safetensors name of the type, such as `F32`."""
    shape: tuple[int, ...]
    """The tensor's shape."""
    start: int = field(compare=False)
    """Byte of the file where its data begins."""
    num_bytes: int = field(compare=False)
    """Length of its data."""


@dataclass(frozen=True)
class Header:
    """The header of one safetensors file."""

    tensors: dict[str, TensorInfo]
    """Every tensor by name, in file order."""
    metadata: dict[str, str]
    """The free text under `__metadata__`."""


def read_header(path: str | Path) -> Header:
    """Read and check the header of a safetensors file; no tensor data is read.

    Raises:
        DitError: the file is missing, is a pickle, or its header is truncated, too large, not JSON, has duplicate
            names, unknown types, overlapping or missing bytes, or bytes after the last tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise DitError(f"{path}: expected a safetensors file, found {'a folder' if path.is_dir() else 'nothing'}")
    with open(path, "rb") as file:
        file_size = path.stat().st_size
        start = file.read(9)
        if is_pickle(start):
            raise DitError(f"{path}: expected safetensors, found a pickle, which can run code; it was not opened")
        if len(start) < 9:
            raise DitError(f"{path}: expected safetensors, found {file_size} bytes; download it again")
        (length,) = struct.unpack("<Q", start[:8])
        if length > MAX_HEADER_BYTES or length > file_size - 8:
            raise DitError(
                f"{path}: its header claims {length} bytes, expected at most {min(MAX_HEADER_BYTES, file_size - 8)}; "
                "the file is truncated or not safetensors"
            )
        file.seek(8)
        raw = file.read(length)
    entries = _parse(path, raw)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DitError(f"{path}: expected text values under __metadata__")
    _check_layout(path, entries, file_size - 8 - length)
    return Header({name: _info(entry, 8 + length) for name, entry in entries.items()}, metadata)


def _info(entry: dict[str, Any], data: int) -> TensorInfo:
    start, stop = entry["data_offsets"]
    return TensorInfo(entry["dtype"], tuple(entry["shape"]), data + start, stop - start)


def is_pickle(start: bytes) -> bool:
    """Tell whether a file whose first nine bytes are `start` is a pickle or the zip archive that torch.save writes."""
    if start[8:9] == b"{":  # where every safetensors header begins
        return False
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"))


def weight_files(folder: str | Path, stem: str = "model") -> list[Path]:
    """Return the files of `<stem>.safetensors` in a folder: itself, or the shards that its index lists.

    Raises:
        DitError: there are none, only pickles, or the index names a file outside the folder, a missing one, or
            tensors that the shards do not hold.
    """
    folder = Path(folder)
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        return _shards(folder, index)
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLE_SUFFIXES)
    found = f"only {', '.join(pickles)}, which is a pickle and is not opened" if pickles else "none"
    raise DitError(f"{folder}: expected {single.name}, found {found}")


def _shards(folder: Path, index: Path) -> list[Path]:
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise DitError(f"{index}: expected a non-empty weight_map")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not SHARD_NAME.fullmatch(shard):
            raise DitError(f"{index}: weight_map names {shard!r}; expected a .safetensors file of the same folder")
    files = [folder / shard for shard in sorted(set(weight_map.values()))]
    held = {name: path.name for path in files for name in read_header(path).tensors}
    if held != weight_map:
        different = sorted(name for name in held.keys() | weight_map.keys() if held.get(name) != weight_map.get(name))
        raise DitError(f"{index}: weight_map and the shards differ in {listed(different)}")
    return files


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Join names for a message, leaving out all but the first `limit`."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            seen: set[str] = set()
            duplicates = [name for name, _ in pairs if name in seen or seen.add(name)]
            raise DitError(f"{path}: its header has {listed(duplicates)} twice")
        return entries

    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=without_duplicates)
    except DitError:
        raise
    except (ValueError, RecursionError):
        raise DitError(f"{path}: its header is not JSON; the file is corrupt or not safetensors") from None
    if not isinstance(entries, dict):
        raise DitError(f"{path}: its header is not a JSON object; the file is corrupt or not safetensors")
    return entries


def _check_layout(path: Path, entries: dict[str, Any], num_bytes: int) -> None:
    spans = []
    for name, entry in entries.items():
        shape, offsets = _check_entry(path, name, entry)
        size = math.prod(shape) * BITS[entry["dtype"]] // 8
        if offsets[1] - offsets[0] != size:
            raise DitError(f"{path}: {name} has {offsets[1] - offsets[0]} bytes, expected {size} for shape {shape}")
        spans.append((*offsets, name))
    end = 0
    for start, stop, name in sorted(spans):
        if start != end:
            raise DitError(f"{path}: {name} starts at byte {start}, expected {end}: overlap or hole")
        end = stop
    if end != num_bytes:
        raise DitError(f"{path}: its tensors take {end} bytes, found {num_bytes}: truncated, or bytes were added")


def _check_entry(path: Path, name: str, entry: Any) -> tuple[list[int], list[int]]:
    if not isinstance(entry, dict) or entry.get("dtype") not in BITS:
        raise DitError(f"{path}: {name} has an unknown type; expected one of {', '.join(BITS)}")
    shape = _sizes(entry.get("shape"))
    if shape is None:
        raise DitError(f"{path}: {name} has shape {entry.get('shape')!r}; expected a list of sizes")
    offsets = _sizes(entry.get("data_offsets"))
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise DitError(f"{path}: {name} has data_offsets {entry.get('data_offsets')!r}; expected [start, end]")
    return shape, offsets


def _sizes(value: Any) -> list[int] | None:
    is_valid = isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)
    return value if is_valid else None
