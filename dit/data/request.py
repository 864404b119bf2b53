"""Which samples a batch is made of, and how each is turned and cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Request:
    """The samples of a batch."""

    indices: np.ndarray
    """(B,) samples of the data set."""
    flips: np.ndarray
    """(B,) bool, whether to take the mirrored image."""
    places: np.ndarray | None = None
    """(B,) in [0, 1), where along its longer side each image is cut out; None: in the centre."""

    @classmethod
    def plain(cls, indices: Sequence[int]) -> Self:
        """Return a request of images that are not mirrored, cut out of the centre."""
        return cls(np.array(indices, dtype=np.int64), np.zeros(len(indices), dtype=bool))

    def split(self, size: int) -> Iterator["Request"]:
        """Yield parts of so many samples; the last may have fewer."""
        for start in range(0, len(self.indices), size):
            part = slice(start, start + size)
            places = None if self.places is None else self.places[part]
            yield Request(self.indices[part], self.flips[part], places)
