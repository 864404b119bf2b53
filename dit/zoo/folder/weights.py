"""Weights into networks: strict, from safetensors alone, memory-mapped, without a random initialisation first.

The network is built on the meta device, where it has shapes and no memory. Names, shapes and types are compared with
the file's header, and only then are the tensors mapped and assigned.
"""

import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dit.errors import ConfigError, DitError
from dit.files import write_json
from dit.models.lora import merge
from dit.models.network import N, Network, block_names
from dit.models.registry import build
from dit.models.updates import update_shapes, updated_layers
from dit.tensors import check_tensors, listed
from dit.zoo.folder.config import ModelDescription
from dit.zoo.folder.safetensors_file import TensorInfo, read_header

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def empty_model(model: ModelDescription) -> Network:
    """Build a network on the meta device: names and shapes, no memory."""
    with torch.device("meta"):
        return build(model.name, model.arguments)


def fill(
    model: N,
    files: Sequence[Path],
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    block_dtype: torch.dtype | None = None,
) -> N:
    """Assign the tensors of safetensors files to a network of the meta device, and put it into eval mode.

    Args:
        model: network as `empty_model` builds it.
        files: the file, or all shards; of a tensor in several files the last one holds, and low-rank updates are merged
            (`dit.models.lora`).
        device: where the weights go; the CPU, memory-mapped, by default.
        dtype: type of the weights; the file's by default.
        block_dtype: type of the blocks alone, which are nearly all of a network; `dtype` by default.

    Raises:
        DitError: a name is missing or unexpected, a shape or type is wrong, or a number is not finite.
    """
    expected = model.state_dict()
    check_header(files, expected)
    blocks = block_names(model) if block_dtype else set()
    dtypes = {name: block_dtype if name in blocks else dtype for name in expected}
    updated = {f"{layer}.weight" for path in files for layer in updated_layers(read_header(path).tensors)}
    first = {name: None if name in updated else dtypes[name] for name in expected}  # until the update is added
    tensors: dict[str, Tensor] = {}
    for path in files:
        # What is converted is read tensor by tensor: of a mapped file both copies would be in memory.
        loaded = load_file(path) if set(dtypes.values()) == {None} else _read_as(path, first)
        check_finite(path, loaded)
        tensors |= {name: tensor.to(device) for name, tensor in loaded.items()}
    model.load_state_dict(merge(tensors, dtypes), strict=True, assign=True)
    return model.eval()


def _read_as(path: Path, dtypes: Mapping[str, torch.dtype | None]) -> dict[str, Tensor]:
    """Read the tensors of a checked file, each converted to its type; None, or none given, is the file's."""
    tensors = {}
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        for name, info in read_header(path).tensors.items():
            stored = DTYPES[info.dtype]
            if not info.num_bytes:
                tensors[name] = torch.empty(info.shape, dtype=dtypes.get(name) or stored)
                continue
            count = info.num_bytes // stored.itemsize
            found = torch.frombuffer(mapped, dtype=stored, count=count, offset=info.start).view(info.shape)
            tensors[name] = found.to(dtypes.get(name) or stored, copy=True)
            del found  # or the file can't be closed
            if hasattr(mapped, "madvise"):  # what has been read need not stay in memory
                pages = [byte // mmap.PAGESIZE * mmap.PAGESIZE for byte in (info.start, info.start + info.num_bytes)]
                if pages[0] < pages[1]:
                    mapped.madvise(mmap.MADV_DONTNEED, pages[0], pages[1] - pages[0])
    return tensors


def stored_types(files: Sequence[Path]) -> set[str]:
    """Return the types of the tensors of some files, as safetensors names them."""
    return {info.dtype for path in files for info in read_header(path).tensors.values()}


def usual_type(files: Sequence[Path], device: str | torch.device | None) -> torch.dtype | None:
    """Return float32 for files of float16 on a CPU, which is slow in that; else None, the files' own."""
    is_slow = torch.device(device or "cpu").type == "cpu" and stored_types(files) == {"F16"}
    return torch.float32 if is_slow else None


def check_header(files: Sequence[Path], expected: Mapping[str, Tensor]) -> None:
    """Compare the headers of a file, of all its shards, or of a file and updates, with the tensors of a network.

    Raises:
        DitError: naming the tensors, with both shapes.
    """
    found: dict[str, TensorInfo] = {}
    for path in files:
        header = read_header(path).tensors
        _check_dtypes(path, header)
        found |= header
    shapes = ({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (expected, found))
    updates = {name: torch.empty(shape, device="meta") for name, shape in update_shapes(*shapes).items()}
    check_tensors(files[0] if len(files) == 1 else files[0].parent, {**expected, **updates}, found)


def _check_dtypes(where: Path, found: Mapping[str, TensorInfo]) -> None:
    counts = Counter(info.dtype for info in found.values())
    usual = counts.most_common(1)[0][0] if counts else "F32"
    expected = usual if usual in DTYPES else "F32, F16 or BF16"
    if wrong := [f"{name} ({info.dtype})" for name, info in found.items() if info.dtype != expected]:
        raise DitError(f"{where}: {len(wrong)} tensors have another type than {expected}: {listed(wrong)}")


def check_finite(where: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        DitError: naming the tensors.
    """
    # A sum reads the memory once and takes none; only where it is not finite is the exact test worth its mask. In the
    # tensor's own type: one that asks for float32 of bfloat16 takes ten times as long, and both add in float32.
    if bad := [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all()
    ]:
        raise DitError(f"{where}: {len(bad)} tensors hold NaN or infinity: {listed(bad)}")


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file.

    Raises:
        DitError: the disk is full or refuses.
    """
    try:
        save_file(dict(tensors), path, metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:
        raise DitError(f"{path}: it can't be written: {error}") from None


def save_weights(tensors: Mapping[str, Tensor], folder: Path, stem: str, max_shard_size: str | None = None) -> None:
    """Write tensors to `<stem>.safetensors`, or to shards with an index where that would be too large.

    Args:
        tensors: by name; no two share memory.
        folder: existing folder.
        stem: name without suffix.
        max_shard_size: largest file, such as "5GB"; no limit by default.

    Raises:
        ConfigError: `max_shard_size` is not a size.
    """
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if max_shard_size is None:
        save_tensors(tensors, folder / f"{stem}.safetensors")
        return
    from huggingface_hub import split_torch_state_dict_into_shards

    pattern = f"{stem}{{suffix}}.safetensors"
    try:
        split = split_torch_state_dict_into_shards(tensors, filename_pattern=pattern, max_shard_size=max_shard_size)
    except ValueError:
        raise ConfigError(f"--max_shard_size: expected a size such as 5GB, found {max_shard_size!r}") from None
    for name, names in split.filename_to_tensors.items():
        save_tensors({key: tensors[key] for key in names}, folder / name)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / f"{stem}.safetensors.index.json", index)
