"""What a safetensors file says it holds, before a tensor is touched.

A file is an 8-byte little-endian header length, a JSON header `{name: {dtype, shape, data_offsets}}` and the data.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dit.errors import DitError
from dit.files import PICKLE_SUFFIXES, read_json
from dit.tensors import listed

PART = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
"""End of the name of a file that holds a part of `<name>.safetensors`."""
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
    """Read the header of a safetensors file; no tensor data is read.

    Raises:
        DitError: the file is missing, is a pickle, or is damaged: the library refuses truncation, overlaps, holes,
            unknown types, headers that are too large, and names that stand there twice with data of their own.
    """
    path = Path(path)
    if not path.is_file():
        raise DitError(f"{path}: expected a safetensors file, found {'a folder' if path.is_dir() else 'nothing'}")
    with open(path, "rb") as file:
        start = file.read(9)
        if is_pickle(start):
            raise DitError(f"{path}: expected safetensors, found a pickle, which can run code; it was not opened")
        try:
            with safe_open(path, "np"):
                pass
        except SafetensorError as error:
            raise DitError(f"{path}: it is damaged or is no safetensors file; {error}") from None
        length = int.from_bytes(start[:8], "little")
        file.seek(8)
        entries = json.loads(file.read(length))
    metadata = entries.pop("__metadata__", None) or {}
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


def files_of(path: Path) -> list[Path]:
    """Return a file, or, where it is a part, all parts.

    Raises:
        DitError: as `weight_files`.
    """
    return weight_files(path.parent, PART.sub("", path.name)) if PART.search(path.name) else [path]


def names_in(files: Iterable[Path]) -> set[str]:
    """Return the names of the tensors of files."""
    return {name for path in files for name in read_header(path).tensors}


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
