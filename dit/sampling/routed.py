"""Guidance by the routed network: the same network, in which some of the tokens skip some of the blocks.

output = u + w (c - u), with c the network and u the routed one, both on the class asked for: the one guides the other
as a weaker network does in autoguidance, without a second network and for fewer products. The tokens of a call depend
on (seed, position, number of the call).

B batch, C latent channels, T tokens, T' kept ones.

Source: Krause et al., "Guiding token-sparse diffusion models", 2026 (sparse guidance), with no sparsity in the stronger
branch.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dit.errors import ConfigError
from dit.models.config import Routing, num_kept
from dit.rng import Purpose, normal


class RoutedGuide:
    """The routed network of one sampling, by the contract model(x_t, t, y).

    Args:
        model: the network, which can route.
        routing: blocks that are skipped, and by how many tokens.
        seed: with the position it decides which tokens.
        positions: B global sample positions; None: 0..B-1.

    Raises:
        ConfigError: the network has fewer blocks.
    """

    def __init__(self, model: Any, routing: Routing, *, seed: int = 0, positions: Sequence[int] | None = None) -> None:
        if routing.rejoin_after > (depth := len(model.block_list())):
            raise ConfigError(
                f"sampling.guidance_routing.rejoin_after: expected a block of the network's {depth}, found "
                f"{routing.rejoin_after}"
            )
        self.model, self.routing, self.seed, self.positions = model, routing, seed, positions
        self.num_calls = 0

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Return the output at x_t (B, C, H, W) for times t (B,) and labels y (B,)."""
        positions = range(len(y)) if self.positions is None else self.positions
        noise = normal(self.seed, Purpose.ROUTE, positions, (self.model.num_tokens,), step=self.num_calls)
        self.num_calls += 1
        keep = noise.argsort(dim=1)[:, : num_kept(self.model.num_tokens, self.routing.ratio)].to(x_t.device)
        blocks = self.routing.model_dump(exclude={"ratio"})
        return self.model.forward_routed(x_t, t, y, keep, **blocks)[0]
