"""What a training step minimises: the loss of the process, and auxiliary losses taken of the same pass.

    total = loss of the process + sum over the recipe's list of weight x auxiliary loss

With routing that pass is one in which some of the tokens skip some of the blocks: `dit.models.sequential`.

Network and heads are one module for Accelerate, so that all gradients are exchanged together; without auxiliary losses
the network stands there alone.

B batch, C latent channels, H x W latent, T tokens, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from dit.diffusion.process import Losses, Process
from dit.models.config import Routing
from dit.models.network import Network
from dit.rng import Purpose
from dit.training.batch import Batch
from dit.training.objectives.auxiliary import AuxiliaryLoss, Pass, Watched
from dit.training.objectives.masks import draw_keep, is_kept, patches_of, pixels_of


class WithHeads(nn.Module):
    """A network and the heads of auxiliary losses behind one forward.

    Args:
        network: the network.
        losses: by name, those that need tokens.
        routing: the blocks that tokens skip where they are routed.
    """

    def __init__(self, network: Network, losses: Mapping[str, AuxiliaryLoss], routing: Routing | None = None) -> None:
        super().__init__()
        self.routing = routing
        self.network: Any = network
        self.heads = nn.ModuleDict({name: loss.head for name, loss in losses.items() if loss.head is not None})
        self.blocks = {name: loss.block for name, loss in losses.items() if loss.block is not None}

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        *,
        keep: Tensor | None = None,
        routed: Tensor | None = None,
        tokens_for: Sequence[str] = (),
        **conditions: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the network's output and, by the names in `tokens_for`, the tokens (B, T, D) that each loss sees.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time as the network embeds it.
            y: (B,) labels.
            keep: (B, T') the tokens that the network is shown; None: all.
            routed: (B, T') the tokens that go through all blocks; None: all.
            tokens_for: names of losses.
            conditions: as the network takes them.
        """
        if keep is not None:
            return self.network.forward_masked(x_t, t, y, keep, **conditions), {}
        after = [self.blocks[name] for name in tokens_for]
        if routed is not None:
            assert self.routing is not None
            blocks = self.routing.model_dump(exclude={"ratio"})
            output, found = self.network.forward_routed(x_t, t, y, routed, **blocks, after=after, **conditions)
        elif after:
            output, found = self.network.forward_intermediates(x_t, t, y, after=after, **conditions)
        else:
            output, found = self.network(x_t, t, y, **conditions), []
        tokens = dict(zip(tokens_for, found, strict=True))
        return output, {name: self.heads[name](z) if name in self.heads else z for name, z in tokens.items()}


@dataclass(frozen=True)
class Objective:
    """The losses of a run."""

    process: Process
    """Makes the first of them."""
    network: nn.Module
    """The network with its heads, where there are auxiliary losses, as prepared by Accelerate (autocast, exchange)."""
    trained: Any
    """The same, not wrapped: its parameters are the optimizer's."""
    auxiliary: Mapping[str, AuxiliaryLoss]
    """The others by name, in the recipe's order."""
    routing: Routing | None = None
    """Tokens that skip blocks."""

    @property
    def heads(self) -> nn.Module | None:
        """The parameters that are trained along with the network; None where there are none."""
        heads = self.trained.heads if isinstance(self.trained, WithHeads) else None
        return heads if heads else None

    def losses(self, batch: Batch, step: int) -> Losses:
        """Return the process's losses of a micro-batch, the auxiliary ones, unweighted, among their terms."""
        if not isinstance(self.trained, WithHeads):
            return self.process.losses(self.network, batch.x_0, batch.y, noise=batch.noise, u=batch.u)
        active = {n: loss for n, loss in self.auxiliary.items() if loss.until_step is None or step < loss.until_step}
        tokens_for = [name for name, loss in active.items() if loss.block is not None]
        keep = next((k for loss in active.values() if (k := loss.keep(batch, step)) is not None), None)
        watched = Watched(self.network, keep=keep, routed=self.routed(batch), tokens_for=tokens_for)
        where = {} if keep is None else {"where": self.pixels(keep)}
        losses = self.process.losses(watched, batch.x_0, batch.y, noise=batch.noise, u=batch.u, **where)
        seen = Pass(step, batch, self.process, self.network, losses.t, watched.output, keep=keep)
        terms = {
            name: loss(replace(seen, tokens=watched.tokens.get(name))) if name in active else loss.at_rest(seen)
            for name, loss in self.auxiliary.items()
        }
        return replace(losses, terms=losses.terms | terms)

    def routed(self, batch: Batch) -> Tensor | None:
        """Return the tokens (B, T') that go through all blocks; None: all."""
        if self.routing is None:
            return None
        arguments = patches_of(self.trained.network.arguments)
        return draw_keep(batch.draws, arguments, self.routing.ratio, batch.x_0.device, Purpose.ROUTE)

    def pixels(self, keep: Tensor) -> Tensor:
        """Return where the tokens keep (B, T') are in the latent: (B, 1, H, W) float32, 1 or 0."""
        arguments = patches_of(self.trained.network.arguments)
        return pixels_of(is_kept(keep, arguments), arguments)

    def total(self, losses: Losses) -> Tensor:
        """Return what is minimised: (B,)."""
        total = losses.loss
        for name, loss in self.auxiliary.items():
            total = total + loss.config.weight * losses.terms[name]
        return total
