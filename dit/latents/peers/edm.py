"""EDM2's folders and zip archives, which REPA and MaskDiT took over: a .npy per image and their labels in dataset.json.

A file `img-mean-std-*.npy` holds (2C, h, w): the mean and the standard deviation of a Gaussian (EDM2, and REPA, whose
folder is `vae-sd`). Under other names the second half may be the log-variance, as in latent diffusion (MaskDiT): it is
one where any of the first files has a negative number there, which a deviation never is.

Source: NVlabs/edm2, dataset_tool.py; sihyun-yu/REPA, preprocessing/dataset_tools.py; Anima-Lab/MaskDiT.
"""

import json
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dit.data.sources import fingerprint_files
from dit.errors import DitError
from dit.latents.codec import LOG_VAR_RANGE
from dit.latents.peers.npy import Files, FolderFiles, ZipFiles, read_npy
from dit.latents.peers.peer import Peer, make_peer, parts_of_files

LABELS_NAME, REPA_FOLDER, DEVIATION_MARK = "dataset.json", "vae-sd", "mean-std"
NUM_LOOKED_AT = 16


def is_edm(path: Path) -> bool:
    """Tell whether a folder or a file is one."""
    if path.is_dir():
        folder = _root(path)
        return (folder / LABELS_NAME).is_file() and next(folder.rglob("*.npy"), None) is not None
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return LABELS_NAME in names and any(name.endswith(".npy") for name in names)


def open_edm(path: Path) -> Peer:
    """Open a folder or an archive; labels are read now, latents when they are needed.

    Raises:
        DitError: a file is missing or damaged, or has another shape; it is named.
    """
    files: Files = FolderFiles(_root(path)) if path.is_dir() else ZipFiles(path)
    names = [name for name in files.names if name.endswith(".npy")]
    labels = _read_labels(files, names)
    shape = read_npy(files, names[0]).shape
    if len(shape) != 3 or shape[0] % 2:
        raise DitError(f"{files.where(names[0])}: expected mean and deviation (2C, h, w), found {shape}")
    load = partial(_load, files, shape, _has_deviations(files, names))
    on_disk = [files.path / name for name in (LABELS_NAME, *names)] if path.is_dir() else [path]
    return make_peer(
        path,
        parts_of_files(files.path, names, np.array(labels or [0] * len(names), dtype=np.int64), load),
        fingerprint=fingerprint_files(on_disk, files.path if path.is_dir() else None),
        latents_shape=(shape[0] // 2, shape[1], shape[2]),
        num_moments=shape[0],
        is_labelled=labels is not None,
    )


def _root(path: Path) -> Path:
    return path / REPA_FOLDER if (path / REPA_FOLDER / LABELS_NAME).is_file() else path


def _read_labels(files: Files, names: list[str]) -> list[int] | None:
    """Return the label of each file; None where dataset.json has none."""
    where = files.where(LABELS_NAME)
    try:
        content: Any = json.loads(files.read(LABELS_NAME))["labels"]
        rows = None if content is None else dict(content)
    except (ValueError, KeyError, TypeError) as error:
        raise DitError(f"{where}: expected labels as [[file, label], ...] or null, found {error!r}") from None
    if rows is None:
        return None
    for name in names:
        if type(rows.get(name)) is not int:
            raise DitError(f"{where}: expected a number from 0 as the label of {name}, found {rows.get(name)!r}")
    return [rows[name] for name in names]


def _has_deviations(files: Files, names: list[str]) -> bool:
    """Tell whether the second half is the standard deviation."""
    if DEVIATION_MARK in names[0]:
        return True
    second_halves = (read_npy(files, name) for name in names[:NUM_LOOKED_AT])
    return all((half[len(half) // 2 :] >= 0).all() for half in second_halves)


def _load(files: Files, shape: tuple[int, ...], has_deviations: bool, name: str) -> Tensor:
    """Return mean and log-variance (2C, h, w) of a file."""
    found = torch.tensor(read_npy(files, name, shape), dtype=torch.float32)
    if not has_deviations:
        return found
    mean, std = found.chunk(2)
    if not (std >= 0).all():
        raise DitError(f"{files.where(name)}: expected standard deviations, found a negative number or NaN")
    return torch.cat([mean, 2 * std.log().clamp(min=LOG_VAR_RANGE[0] / 2)])
