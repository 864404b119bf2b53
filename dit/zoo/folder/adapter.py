"""An adapter: what a training of some parameters made, in a file of its own that goes over the weights it began with.

`adapter.safetensors` holds low-rank updates (`dit.models.updates`) and tensors that were trained whole. Its metadata
names the weights that it goes over, and has a few of their numbers, by which others of the same shapes are told. In a
folder it stands in place of model.safetensors. Free of torch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dit.errors import ConfigError, DitError
from dit.models.updates import update_shapes, updated_layers
from dit.tensors import check_tensors
from dit.zoo.folder.config import FolderConfig
from dit.zoo.folder.safetensors_file import TensorInfo, read_header, weight_files

ADAPTER_NAME = "adapter.safetensors"
NUM_PROBED = 16


def own_files(folder: Path, config: FolderConfig) -> list[Path]:
    """Return the weight files of an exported folder: the model's, or its adapter."""
    return weight_files(folder) if config.adapter_of is None else [folder / ADAPTER_NAME]


def find_adapter(path: str | Path) -> Path:
    """Return the file of an adapter that is named by itself or by its folder.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(path)
    file = path / ADAPTER_NAME if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"--adapter: expected a .safetensors file, or a folder with {ADAPTER_NAME}, found no {file}")
    return file


def metadata_of(base: str, files: Sequence[Path], trained: Mapping[str, object]) -> dict[str, str]:
    """Return what an adapter's file says of the weights that it goes over.

    Args:
        base: their source.
        files: their files.
        trained: the adapter's tensors, by name; the probe is of another.
    """
    shapes = {name: info.shape for path in files for name, info in read_header(path).tensors.items()}
    probed = [name for name, shape in shapes.items() if len(shape) == 2 and name not in trained][-1]
    return {"base": base, "probe": json.dumps({probed: _probe(files, probed)})}


def check_adapter(file: Path, files: Sequence[Path], source: str) -> None:
    """Refuse an adapter that does not go over some weights.

    Args:
        file: the adapter's.
        files: the weights'.
        source: what a message calls them.

    Raises:
        DitError: they are of another network, or other weights of the same one; or it is no adapter.
    """
    adapter = read_header(file)
    base = {name: info for path in files for name, info in read_header(path).tensors.items()}
    origin, probe = adapter.metadata.get("base"), adapter.metadata.get("probe")
    if origin is None or probe is None:
        raise DitError(
            f"{file}: expected an adapter as `dit export --adapter` writes it, found no name of its base in it"
        )
    if updated_layers(base):
        raise DitError(f"{source}: expected whole weights below an adapter, found updates; `dit export` merges them")
    shapes = {name: info.shape for name, info in base.items()}
    updates = update_shapes(shapes, {name: info.shape for name, info in adapter.tensors.items()})
    fitting = {name: TensorInfo("", tuple(shape), 0, 0) for name, shape in updates.items()}
    fitting |= {name: base[name] for name in adapter.tensors if name in base}
    try:
        check_tensors(file, fitting, adapter.tensors)
    except DitError as error:
        raise DitError(f"{error}; it is an adapter of {origin}, found {source}") from None
    for name, values in json.loads(probe).items():
        found = _probe(files, name)
        # Half precisions differ by less than a hundredth, weights that were trained apart by far more.
        if any(abs(a - b) > 0.01 * abs(b) + 1e-6 for a, b in zip(found, values, strict=True)):
            raise DitError(f"{file}: expected the weights that it was trained on, {origin}, found others in {source}")


def _probe(files: Sequence[Path], name: str) -> list[float]:
    """Return the first numbers of a tensor, in any precision."""
    import numpy as np

    path = next(path for path in reversed(files) if name in read_header(path).tensors)
    info = read_header(path).tensors[name]
    with open(path, "rb") as file:
        file.seek(info.start)
        content = file.read(min(info.num_bytes, NUM_PROBED * (4 if info.dtype == "F32" else 2)))
    if info.dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").tolist()
    return np.frombuffer(content, "<f4" if info.dtype == "F32" else "<f2").astype(float).tolist()
