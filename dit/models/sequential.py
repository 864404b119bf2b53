"""Token routing: some of the tokens skip some of the blocks and go on with the others after them.

tokens after block `leave_after` -> the kept ones go through the blocks up to `rejoin_after`, among themselves ->
back to their places between those that waited, unchanged.

B batch, L class tokens before them, T tokens of the grid, T' kept ones, D width, d head width.

Source: Krause et al., "TREAD: token routing for efficient architecture-agnostic diffusion training", ICCV 2025, section
3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dit.models.adaln import AdaLNTransformer
from dit.models.prepared import CallBlock


class SequentialTransformer(AdaLNTransformer):
    """Base of the families whose blocks are one plain sequence over the tokens of the grid, without links across."""

    @property
    def num_tokens(self) -> int:
        """T."""
        rows, columns = self.arguments.grid_size
        return rows * columns

    def forward_routed(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        keep: Tensor,
        *,
        leave_after: int,
        rejoin_after: int,
        after: Sequence[int] = (),
        **conditions: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `forward_intermediates` does where some tokens skip blocks: see `dit.models.network.CanRoute`."""
        route = Route(keep, self.num_tokens, leave_after, rejoin_after)
        return self.run(x_t, t, y, after, conditions, route.around)


@dataclass
class Route:
    """The way of a batch through the blocks."""

    keep: Tensor
    """(B, T') int64 tokens of the grid that go through all blocks."""
    num_tokens: int
    """T."""
    leave_after: int
    """Number of blocks after which the others leave."""
    rejoin_after: int
    """Number of blocks after which they are back."""
    narrowed: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Name of an input of the blocks -> the input, and that of the kept tokens."""

    def around(self, call: CallBlock) -> CallBlock:
        """Return call(i, tokens, inputs) with the others kept out of the blocks between."""
        waiting = torch.empty(0)

        def routed(i: int, tokens: Tensor, inputs: dict[str, Tensor]) -> Tensor:
            nonlocal waiting
            if i == self.leave_after:
                waiting = tokens[:, -self.num_tokens :]
                tokens = tokens.gather(1, self.places(tokens)[..., None].expand(-1, -1, tokens.shape[2]))
            if self.leave_after <= i < self.rejoin_after:
                inputs = {name: self.narrow(name, turns) for name, turns in inputs.items()}
            tokens = call(i, tokens, inputs)
            if i == self.rejoin_after - 1:
                first, kept = tokens[:, : -self.keep.shape[1]], tokens[:, -self.keep.shape[1] :]
                whole = waiting.scatter(1, self.keep[..., None].expand_as(kept), kept)  # (B, T, D)
                tokens = torch.cat([first, whole], dim=1) if first.shape[1] else whole
            return tokens

        return routed

    def places(self, tokens: Tensor) -> Tensor:
        """Return where in tokens (..., L + T, D) the first L and the kept ones are: (B, L + T') int64."""
        num_first = tokens.shape[-2] - self.num_tokens
        first = torch.arange(num_first, device=self.keep.device).expand(len(self.keep), -1)
        return torch.cat([first, self.keep + num_first], dim=1)

    def narrow(self, name: str, turns: Tensor) -> Tensor:
        """Return the turns (2, L + T, d/2) of the tokens that are there, for all heads: (2, B, 1, L + T', d/2)."""
        if name not in self.narrowed or self.narrowed[name][0] is not turns:
            self.narrowed[name] = turns, turns[:, self.places(turns)][:, :, None]
        return self.narrowed[name][1]
