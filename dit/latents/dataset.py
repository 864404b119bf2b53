"""Cached moments as a data set: whole batches are gathered from memory-mapped files by index.

N samples, B of a batch; M moments of C x h x w latents.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dit.errors import ConfigError, DitError
from dit.files import sha256
from dit.latents.shards import Index, Part, PartEntry, read_index, read_part


class LatentDataset:
    """A finished cache of moments.

    Args:
        folder: what `encode_dataset` wrote.

    Raises:
        DitError: the index or a part is missing, cut short or damaged; the file is named.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.index: Index = read_index(self.folder)
        self.class_names, self.fingerprint = self.index.class_names, self.index.fingerprint
        self.num_classes = len(self.class_names)  # 0 for images without labels
        self.latents_shape = self.index.latents_shape  # C, h, w
        self.moments_shape = (self.index.num_moments, *self.latents_shape[1:])  # M, h, w
        self._parts = [self._open(entry) for entry in self.index.parts]
        self._ends = np.cumsum([entry.num_samples for entry in self.index.parts], dtype=np.int64)
        labels = [part.labels for part in self._parts]
        self.labels: np.ndarray = torch.cat(labels).numpy() if labels else np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def get(self, indices: Sequence[int] | np.ndarray, flips: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Gather a batch.

        Args:
            indices: (B,) samples, in 0..N-1, in any order, also repeated.
            flips: (B,) bool, whether to take the mirrored image; None: never.

        Returns:
            moments (B, M, h, w) float32 and labels (B,) int64, on the CPU.

        Raises:
            ConfigError: mirrored images are asked for and were not encoded.
            DitError: there is NaN or infinity in the moments; the file and the index are named.
        """
        indices = np.asarray(indices, dtype=np.int64)
        views = np.zeros(len(indices), dtype=np.int64) if flips is None else np.asarray(flips).astype(np.int64)
        if views.any() and not self.index.identity.flip:
            raise ConfigError(f"data.flip: expected latents with mirrored images, found none in {self.folder}")
        moments = torch.empty(len(indices), *self.moments_shape)
        numbers = np.searchsorted(self._ends, indices, side="right")  # (B,) the part that each sample is in
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            part = self._parts[number]
            local = torch.from_numpy(indices[here] - self._ends[number] + len(part.labels))
            moments[torch.from_numpy(here)] = part.moments[local, torch.from_numpy(views[here])].float()
        if not moments.isfinite().all():
            self._refuse(moments, indices, numbers)
        return moments, torch.from_numpy(self.labels[indices])

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
        return read_part(path, fingerprint=self.fingerprint)

    def _refuse(self, moments: Tensor, indices: np.ndarray, numbers: np.ndarray) -> None:
        bad = int(np.flatnonzero(~moments.isfinite().flatten(1).all(dim=1).numpy())[0])
        raise DitError(
            f"{self._parts[numbers[bad]].path}: expected finite latents, found NaN or infinity at index "
            f"{indices[bad]}; remove the folder to encode anew"
        )
