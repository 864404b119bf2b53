"""Squared distances between rows of features, tile by tile, so that memory does not grow with their number.

    d^2(u, v) = |u|^2 - 2 u.v + |v|^2

Two arithmetics: `EXACT` in float64, where distances that rounding can't tell from a bound are computed anew from the
differences, so that repeated rows tie exactly; and `ADM`, the original evaluator's. There every operation rounds to
float16, and the ties that this makes raise precision by about 0.001 and recall by 0.002; a tile in which something
overflows is computed in float32.

Source: `_batch_pairwise_distances` of openai/guided-diffusion's evaluator.

Shapes: M and N rows, A and B rows of a block, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dit.evaluation.feature_set import ROWS_AT_ONCE

CLOSE = 1e-10
"""Difference from a bound, relative to the largest distance of a tile, that rounding in float64 may make."""


class Arithmetic(Protocol):
    """How distances are rounded."""

    @property
    def settles_ties(self) -> bool:
        """Whether distances close to a bound are computed anew."""
        ...

    def prepare(self, rows: Tensor, centre: Tensor, /) -> Tensor:
        """Return rows (A, D) as `distances` takes them; `centre` (D,) is amid all rows."""
        ...

    def distances(self, a: Tensor, b: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return squared distances (A, B) of a (A, D) from b (B, D), and (B, A), which may be rounded otherwise."""
        ...


class Exact:
    """float64, around the mean of one set, so that little cancels."""

    settles_ties = True

    def prepare(self, rows: Tensor, centre: Tensor) -> Tensor:
        """Return them in float64, around the centre."""
        return rows.double() - centre.double()

    def distances(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared distances (A, B) and (B, A)."""
        found = torch.addmm(a.square().sum(dim=1)[:, None] + b.square().sum(dim=1), a, b.T, alpha=-2)
        return found, found.T


class Adm:
    """float16 with sums in float32; a tile that overflows in float32."""

    settles_ties = False

    def prepare(self, rows: Tensor, centre: Tensor) -> Tensor:
        """Return them as they are."""
        return rows

    def distances(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared distances (A, B) and (B, A), float32."""
        halves = a.half(), b.half()
        squares = [half.square().float().sum(dim=1).half() for half in halves]  # (A,), (B,)
        product = (halves[0].float() @ halves[1].float().T).half()
        found = _combine(product, *squares)
        if not all(bool(distances.isfinite().all()) for distances in found):
            found = _combine(a @ b.T, a.square().sum(dim=1), b.square().sum(dim=1))
        return found


def _combine(product: Tensor, squares_a: Tensor, squares_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances (A, B) and (B, A); each operation rounds to the type of its arguments."""
    product = 2 * product
    there = (squares_a[:, None] - product).add_(squares_b)
    back = (squares_b[:, None] - product.T).add_(squares_a)
    return there.clamp_(min=0).float(), back.clamp_(min=0).float()


EXACT, ADM = Exact(), Adm()


@dataclass(frozen=True)
class Tile:
    """Distances between some rows of one set and some of another."""

    a: slice
    """Which rows of the first."""
    b: slice
    """Which of the second."""
    rows: tuple[Tensor, Tensor]
    """Those rows, (A, D) and (B, D)."""
    distances: Tensor
    """(A, B) squared."""
    settles_ties: bool
    """Whether distances close to a bound are computed anew."""

    def beside(self, bounds: Tensor) -> Tensor:
        """Return the distances as they compare with bounds, (A, 1) or (B,) squared distances."""
        if not self.settles_ties:
            return self.distances
        is_close = (self.distances - bounds).abs_() <= CLOSE * self.distances.max()
        a, b = is_close.nonzero().unbind(dim=1)
        distances = self.distances.clone() if len(a) else self.distances
        for some_a, some_b in zip(a.split(ROWS_AT_ONCE), b.split(ROWS_AT_ONCE), strict=True):
            distances[some_a, some_b] = row_distances(self.rows[0][some_a], self.rows[1][some_b])
        return distances


def row_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distance of each row of a (..., D) from that of b, of their differences in float64: (...)."""
    return (a.double() - b.double()).square_().sum(dim=-1)


def tiles(first: Tensor, second: Tensor, arithmetic: Arithmetic) -> Iterator[Tile]:
    """Yield the squared distances of all pairs of rows of `first` (M, D) and `second` (N, D), a tile at a time."""
    centre = first.mean(dim=0)
    for a in _slices(first):
        rows = arithmetic.prepare(first[a], centre)
        for b in _slices(second):
            distances, _ = arithmetic.distances(rows, arithmetic.prepare(second[b], centre))
            yield Tile(a, b, (first[a], second[b]), distances, arithmetic.settles_ties)


def neighbour_distances(rows: Tensor, k: int, arithmetic: Arithmetic) -> Tensor:
    """Return the squared distance of each row (N, D) to its k-th nearest neighbour, itself not counted: (N,)."""
    centre = rows.mean(dim=0)
    nearest = torch.full((len(rows), k + 1), torch.inf, dtype=torch.float64)
    numbers = torch.zeros(len(rows), k + 1, dtype=torch.int64)  # of the nearest rows, each row itself among them
    slices = list(_slices(rows))
    for first, a in enumerate(slices):
        block = arithmetic.prepare(rows[a], centre)
        for b in slices[first:]:
            there, back = arithmetic.distances(block, arithmetic.prepare(rows[b], centre))
            nearest[a], numbers[a] = _least(nearest[a], numbers[a], there, b.start)
            if a != b:
                nearest[b], numbers[b] = _least(nearest[b], numbers[b], back, a.start)
    if arithmetic.settles_ties and len(rows) > k:
        for a in slices:
            for some in range(k + 1):
                nearest[a, some] = row_distances(rows[a], rows[numbers[a, some]])
    return nearest.max(dim=1).values


def _least(nearest: Tensor, numbers: Tensor, distances: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Return the least of what was found (A, k + 1) and of distances (A, B) from rows that begin at `start`."""
    count = nearest.shape[1]
    found, rows = distances.topk(min(count, distances.shape[1]), largest=False)
    least, chosen = torch.cat([nearest, found.double()], dim=1).topk(count, largest=False)
    return least, torch.cat([numbers, rows + start], dim=1).gather(1, chosen)


def _slices(rows: Tensor) -> Iterator[slice]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, len(rows)))
