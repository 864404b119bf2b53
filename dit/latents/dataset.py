"""Cached moments as a data set: batches are read by index, sample by sample.

N samples, B of a batch; M moments of C x h x w latents.
"""

import copy
import hashlib
import os
import resource
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit.data.request import Request
from dit.errors import ConfigError, DitError
from dit.files import sha256
from dit.latents.read_ahead import Rows, read_ahead
from dit.latents.shards import Index, Part, PartEntry, ReadsRows, read_index, read_part

SPARE_FILES = 1024
"""Files that may be open besides the parts."""


class LatentDataset:
    """Moments in parts: a finished cache, or latents that another opener of parts reads.

    Args:
        folder: what `encode_dataset` wrote, or what messages call the latents.
        index: what the folder holds; its index.json by default.
        open_part: opens the part of a number, as often as it is asked to, from any thread; by default all are opened
            now, and stay open.

    Raises:
        DitError: the index or a part is missing, cut short or damaged; the file is named.
    """

    def __init__(
        self, folder: str | Path, index: Index | None = None, open_part: Callable[[int], ReadsRows] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.index = index or read_index(self.folder)
        self.class_names, self.fingerprint = self.index.class_names, self.index.fingerprint
        self.num_classes = len(self.class_names)  # 0 for images without labels
        self.latents_shape = self.index.latents_shape  # C, h, w
        self.moments_shape = (self.index.num_moments, *self.latents_shape[1:])  # M, h, w
        self.images_fingerprint, self.skipped = self.index.identity.data, self.index.skipped
        self.storage: torch.dtype = getattr(torch, self.index.identity.storage)
        _allow_open_files(len(self.index.parts) + SPARE_FILES)
        opened = [] if open_part else [self._open(entry) for entry in self.index.parts]
        self._part = open_part or opened.__getitem__
        self._opened = _OpenParts(opened) if opened else None
        self._starts = np.cumsum([0, *(entry.num_samples for entry in self.index.parts)], dtype=np.int64)
        self._rows = np.arange(self._starts[-1])  # (N,) where each sample is in all the parts

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> np.ndarray:
        """(N,) number of each sample among the images that were not left out."""
        return self._rows

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64 class of each sample; every part is opened for it."""
        labels = [self._part(number).labels for number in range(len(self.index.parts))]
        return np.concatenate(labels)[self._rows] if labels else np.zeros(0, dtype=np.int64)

    @property
    def part_sizes(self) -> np.ndarray:
        """(P,) number of samples in each part."""
        return np.bincount(self._part_of(self._rows), minlength=len(self.index.parts))

    def take(self, rows: np.ndarray) -> "LatentDataset":
        """Return the samples `rows` (n,) as a data set of their own."""
        taken = copy.copy(self)
        taken._rows = self._rows[rows]
        taken.fingerprint = hashlib.sha256(self.fingerprint.encode() + taken._rows.tobytes()).hexdigest()
        return taken

    def get(self, indices: Sequence[int] | np.ndarray, flips: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Gather a batch.

        Args:
            indices: (B,) samples, in 0..N-1, in any order, also repeated.
            flips: (B,) bool, whether to take the mirrored image; None: never.

        Returns:
            moments (B, M, h, w) float32 and labels (B,) int64, on the CPU.

        Raises:
            ConfigError: mirrored images are asked for and were not encoded.
            DitError: a file can't be read, or there is NaN or infinity in the moments; it is named, and the index.
        """
        indices = np.asarray(indices, dtype=np.int64)
        moments = torch.empty(len(indices), *self.moments_shape, dtype=self.storage)
        labels = torch.empty(len(indices), dtype=torch.int64)
        self.fill(moments, labels, indices, np.zeros(len(indices), dtype=bool) if flips is None else np.asarray(flips))
        self.check(moments, indices)
        return moments.float(), labels

    def read(self, requests: Iterable[Request], *, pin_memory: bool = False) -> Generator[Rows]:
        """Answer requests in order, reading ahead in threads until the generator is closed; see `read_ahead`."""
        return read_ahead(self, requests, pin_memory=pin_memory)

    def fill(self, moments: Tensor, labels: Tensor, indices: np.ndarray, flips: np.ndarray) -> None:
        """Read a batch as `get` does, into moments (B, M, h, w) in the type of storage and labels (B,); see `check`."""
        if flips.any() and not self.index.identity.flip:
            raise ConfigError(f"data.flip: expected latents with mirrored images, found none in {self.folder}")
        rows = self._rows[indices]
        numbers = self._part_of(rows)
        in_part, views = rows - self._starts[numbers], flips.astype(np.int64)  # each (B,)
        samples = moments.view(torch.uint8).flatten(1).numpy()
        if self._opened and _are_read(samples, self._opened.find(numbers, in_part, views, samples.shape[1])):
            labels.numpy()[:] = self._opened.labels[rows]
        else:
            labels.numpy()[:] = self._read_by_part(samples, numbers, in_part, views)

    def check(self, moments: Tensor, indices: np.ndarray) -> None:
        """Refuse moments (B, M, h, w) of the samples `indices` (B,) that are not finite."""
        if _are_finite(moments):
            return
        bad = int(indices[np.flatnonzero(~moments.isfinite().flatten(1).all(dim=1).numpy())[0]])
        raise DitError(
            f"{self._part(int(self._part_of(self._rows[bad]))).path}: expected finite latents, found NaN or infinity "
            f"at index {bad}; encode it anew"
        )

    def verify(self) -> None:
        """Compare every part's hash with the index.

        Raises:
            DitError: with the file and both hashes.
        """
        for entry in self.index.parts:
            found = sha256(self.folder / entry.file)
            if found != entry.sha256:
                raise DitError(
                    f"{self.folder / entry.file}: expected sha256 {entry.sha256}, found {found}; remove the folder to "
                    "encode anew"
                )

    def _open(self, entry: PartEntry) -> Part:
        path = self.folder / Path(entry.file).name
        found = path.stat().st_size if path.is_file() else 0
        if found != entry.num_bytes:
            raise DitError(f"{path}: expected {entry.num_bytes} bytes, found {found}; remove the folder to encode anew")
        part = read_part(path, fingerprint=self.fingerprint)
        expected = (entry.num_samples, 1 + self.index.identity.flip, *self.moments_shape), self.storage
        if (found := (tuple(part.moments.shape), part.moments.dtype)) != expected:
            raise DitError(f"{path}: expected moments {expected}, found {found}; remove the folder to encode anew")
        return part

    def _read_by_part(
        self, samples: np.ndarray, numbers: np.ndarray, rows: np.ndarray, views: np.ndarray
    ) -> np.ndarray:
        """Read samples (B, bytes), given part, row in it and view (B,), and return their labels; errors name files."""
        parts = [self._part(number) for number in numbers.tolist()]
        for sample, part, row, view in zip(samples, parts, rows.tolist(), views.tolist(), strict=True):
            part.read(sample, row, view)
        return np.array([part.labels[row] for part, row in zip(parts, rows, strict=True)], dtype=np.int64)

    def _part_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts[1:], rows, side="right")


def _allow_open_files(number: int) -> None:
    """Raise this process's limit of open files, which is 1,024 on many systems, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _OpenParts:
    """Parts that are all open, so that a batch is read with one call a sample and little else."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._descriptors = np.array([part.file.descriptor for part in parts])  # each (P,)
        self._starts = np.array([part.start for part in parts])
        self._num_views = np.array([part.num_views for part in parts])
        self.labels = np.concatenate([part.labels for part in parts])  # (N,)

    def find(self, numbers: np.ndarray, rows: np.ndarray, views: np.ndarray, num_bytes: int) -> list[tuple[int, int]]:
        """Return the descriptor and the first byte of each sample, given part, row in it and view (B,)."""
        starts = self._starts[numbers] + (rows * self._num_views[numbers] + views) * num_bytes
        return list(zip(self._descriptors[numbers].tolist(), starts.tolist(), strict=True))


def _are_read(samples: np.ndarray, places: Sequence[tuple[int, int]]) -> bool:
    """Read samples (B, bytes) from a descriptor and a byte of its file each; tell whether all were there, whole."""
    num_bytes = samples.shape[1]
    try:
        for sample, (descriptor, start) in zip(samples, places, strict=True):
            if os.preadv(descriptor, [sample], start) != num_bytes:
                return False
    except OSError:
        return False
    return True


def _are_finite(moments: Tensor) -> bool:
    """Tell whether all numbers are, many times faster than `isfinite` does.

    In float32 in one pass, by their sum, which also too large ones make infinite; else by their bits: among the
    patterns of a sign, those of infinity and NaN are the largest.
    """
    if moments.dtype == torch.float32 and np.isfinite(np.einsum("i->", moments.flatten().numpy())):
        return True
    kind = f"int{8 * moments.element_size()}"
    infinities = torch.tensor([torch.inf, -torch.inf], dtype=moments.dtype).view(getattr(torch, kind)).numpy()
    signed = moments.view(getattr(torch, kind)).numpy()
    unsigned, minus = signed.view(f"u{kind}"), infinities.view(f"u{kind}")[1]
    return bool(signed.max(initial=0) < infinities[0] and unsigned.max(initial=0) < minus)
