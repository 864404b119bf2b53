"""Step caching: most calls of a sampling reuse or extrapolate what the blocks added to the tokens in earlier calls.

The blocks' update u(t) = tokens after the blocks - tokens before them changes slowly along a trajectory. Every n-th
call computes it; in between it is either the last one (static), or the polynomial in t through the last computed ones
(taylor), so that a call costs the embedding and the output layer alone. Samples change: it is off by default.

Source: static: Selvaraju et al., "FORA", 2024; Liu et al., "From reusing to forecasting: accelerating diffusion models
with TaylorSeers", ICCV 2025, here on the whole stack of blocks, with divided differences in place of derivatives.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dit.errors import ConfigError

ORDERS = {"static": 0, "taylor": 2}
"""Kind -> order of the extrapolation."""


@dataclass
class StepCache:
    """The computed updates of one sampling."""

    kind: str
    """static or taylor."""
    interval: int
    """Every how many calls the blocks are computed."""
    known: dict[Any, list[tuple[float, Tensor]]] = field(default_factory=dict)
    """By group of rows: the last computed (t, update), the newest last."""
    num_calls: dict[Any, int] = field(default_factory=dict)
    """Calls so far, by group of rows."""

    def __post_init__(self) -> None:
        if self.kind not in ORDERS:
            raise ConfigError(f"sampling.cache: expected off, static or taylor with this network, found {self.kind}")

    def __call__(self, rows: Any, t: float, tokens: Tensor, blocks: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the tokens (B, T, D) after the blocks.

        Args:
            rows: names the group of samples that is called; each has a history of its own.
            t: time of the call.
            tokens: (B, T, D) before the blocks.
            blocks: computes them.
        """
        order = ORDERS[self.kind]
        known, number = self.known.setdefault(rows, []), self.num_calls.get(rows, 0)
        self.num_calls[rows] = number + 1
        # The first calls are computed: the extrapolation needs them, and the picture is decided there.
        if number > order and number % self.interval:
            return tokens + extrapolate(known, t)
        after = blocks(tokens)
        if known and known[-1][0] == t:  # a solver's second call at the same time knows better
            known.pop()
        known.append((t, after - tokens))
        del known[: -order - 1]
        return after


def extrapolate(known: list[tuple[float, Tensor]], t: float) -> Tensor:
    """Return the value at t of the polynomial through pairs (t_j, value_j) of different times (Lagrange's form)."""
    total = None
    for j, (t_j, value) in enumerate(known):
        weight = 1.0
        for i, (t_i, _) in enumerate(known):
            if i != j:
                weight *= (t - t_i) / (t_j - t_i)
        total = weight * value if total is None else total + weight * value
    assert total is not None
    return total
