"""fast-DiT's folders: `*features/I.npy`, one draw (1, C, h, w) each, already times 0.18215, and `*labels/I.npy` (1,).

Source: chuanyangjin/fast-DiT, extract_features.py.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit.data.sources import fingerprint_files
from dit.errors import DitError
from dit.latents.peers.npy import FolderFiles, read_npy
from dit.latents.peers.peer import Peer, make_peer, parts_of_files

SCALE = 0.18215
FEATURES, LABELS = "features", "labels"
NUM_THREADS = 16


def is_fast_dit(path: Path) -> bool:
    """Tell whether a folder is one."""
    return path.is_dir() and next(_pairs(path), None) is not None


def open_fast_dit(path: Path) -> Peer:
    """Open a folder; labels are read now, latents when they are needed.

    Raises:
        DitError: a file is missing or damaged, or has another shape; it is named.
    """
    features, labels_folder = next(_pairs(path))
    files, labels = FolderFiles(features), FolderFiles(labels_folder)
    names = sorted((name for name in files.names if name.endswith(".npy")), key=lambda name: (len(name), name))
    fingerprint = fingerprint_files([folder / name for folder in (features, labels_folder) for name in names], path)
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        values = np.array(list(threads.map(partial(_read_label, labels), names)), dtype=np.int64)
    shape = read_npy(files, names[0]).shape
    if len(shape) != 4 or shape[0] != 1:
        raise DitError(f"{files.where(names[0])}: expected one latent (1, C, h, w), found {shape}")
    parts = parts_of_files(features, names, values, partial(_load, files, shape))
    return make_peer(path, parts, fingerprint=fingerprint, latents_shape=shape[1:], num_moments=shape[1])


def _pairs(path: Path) -> Iterator[tuple[Path, Path]]:
    for features in sorted(path.glob(f"*{FEATURES}")):
        labels = path / (features.name.removesuffix(FEATURES) + LABELS)
        if labels.is_dir() and next(features.glob("*.npy"), None):
            yield features, labels


def _read_label(files: FolderFiles, name: str) -> int:
    label = read_npy(files, name)
    if label.size != 1 or label.dtype.kind not in "iu":
        raise DitError(f"{files.where(name)}: expected one label, found {label.dtype} {label.shape}")
    return int(label.item())


def _load(files: FolderFiles, shape: tuple[int, ...], name: str) -> Tensor:
    return torch.tensor(read_npy(files, name, shape)[0], dtype=torch.float32) / SCALE
