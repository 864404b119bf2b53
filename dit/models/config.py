"""Token routing, as training and sampling are told of it. Free of torch."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from dit.schema import Section


class Routing(Section):
    """Which blocks are skipped by some of the tokens, drawn at random, which then go on with the others."""

    leave_after: Annotated[int, Field(ge=0, le=1000)] = 2
    """Number of blocks, from 1, after which the drawn tokens leave; 0: before the first."""
    rejoin_after: Annotated[int, Field(ge=1, le=1000)]
    """Number of blocks after which they are back, unchanged; the later, the cheaper."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the tokens that is drawn."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.leave_after >= self.rejoin_after:
            raise ValueError(f"leave_after: expected a block before {self.rejoin_after}, found {self.leave_after}")
        return self


def num_kept(num_tokens: int, ratio: float) -> int:
    """Return how many of the tokens are left where a share of them is drawn: one at least."""
    return max(1, int(num_tokens * (1 - ratio)))
