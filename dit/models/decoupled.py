"""What transformers in two halves have in common: an encoder of the condition, and a decoder that it modulates.

s = SiLU(time + encoder(x, time, class)), output = decoder(x, s): the encoder's blocks are modulated by the time and the
class of a sample, the decoder's token by token by s, which changes slowly along a trajectory and can serve several
steps.

B batch, C latent channels, H x W latent, T tokens, D encoder width, E decoder width, K classes.

Source: Wang et al., "DDT: decoupled diffusion transformer", 2025, sections 3.2 and 3.4.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dit.errors import ConfigError
from dit.layers.embed import FourierEmbedder, LabelEmbedder, TimestepEmbedder
from dit.layers.precision import dtype_of
from dit.models.graphs import call
from dit.models.network import Network, Step
from dit.models.prepared import Modulations

LABELS = "y_embedder.embedding_table.weight"


class DecoupledTransformer(Network):
    """Base of the families in two halves: block(tokens, condition, modulation, **inputs) of either half."""

    t_embedder: TimestepEmbedder | FourierEmbedder
    y_embedder: LabelEmbedder
    blocks: nn.ModuleList
    """Those of the encoder, then those of the decoder."""
    encoder_depth: int
    """Number of the encoder's."""

    def enter_encoder(self, x: Tensor) -> Tensor:
        """Return the encoder's tokens (B, T, D) of latents x (B, C, H, W)."""
        raise NotImplementedError

    def enter_decoder(self, x: Tensor) -> Tensor:
        """Return the decoder's tokens (B, T, E) of latents x (B, C, H, W)."""
        raise NotImplementedError

    def widen(self, state: Tensor) -> Tensor:
        """Return the condition (B, T, E) of what the encoder says of each token (B, T, D)."""
        return state

    def block_inputs(self, *, of_decoder: bool) -> dict[str, Tensor]:
        """Return what every block of a half takes besides tokens and condition, by name."""
        raise NotImplementedError

    def leave(self, tokens: Tensor, state: Tensor) -> Tensor:
        """Return the image (B, C, H, W) of the last block's tokens and their condition, each (B, T, E)."""
        raise NotImplementedError

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict from noised latents.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time as the process embeds it.
            y: (B,) int64 labels in [0, K]; K is the null class.

        Returns:
            (B, C, H, W).

        Raises:
            ConfigError: the latents have another shape than the network was built for.
        """
        return self.forward_intermediates(x_t, t, y)[0]

    def forward_intermediates(
        self, x_t: Tensor, t: Tensor, y: Tensor, *, after: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output of `forward`, and the tokens (B, T, D or E) after these numbers of blocks, from 1."""
        kept: dict[int, Any] = dict.fromkeys(after)
        output = self.decode(x_t, self.encode(x_t, t, y, kept), kept)
        return output, [kept[number] for number in after]

    def encode(self, x_t: Tensor, t: Tensor, y: Tensor, kept: dict[int, Any] | None = None) -> Tensor:
        """Return the condition of each token, (B, T, E), which `decode` takes; see `forward`."""
        self.check_input(x_t)
        time = self.t_embedder(t)  # (B, D)
        tokens = self._run(self.enter_encoder(x_t), self.condition(time, y), kept=kept)
        return self.widen(silu(time[:, None] + tokens))

    def decode(self, x_t: Tensor, state: Tensor, kept: dict[int, Any] | None = None) -> Tensor:
        """Return the output (B, C, H, W) at x_t (B, C, H, W) by the condition of its tokens (B, T, E)."""
        self.check_input(x_t)
        return self.leave(self._run(self.enter_decoder(x_t), state, of_decoder=True, kept=kept), state)

    def condition(self, time: Tensor, y: Tensor) -> Tensor:
        """Return the encoder's condition (..., D) for embedded times (..., D) and labels y (...)."""
        return silu(time + self.y_embedder(y))

    @torch.no_grad()
    def prepare(
        self, t_grid: Tensor, y: Tensor, *, cache: Literal["encoder"] | None = None, cache_interval: int = 2
    ) -> Step:
        """Compute the encoder's modulations beforehand, and return step(x_t, i, rows) for sampling.

        Args:
            t_grid: (N,) times as the network embeds them.
            y: (R,) int64 labels of the rows, for guidance those of both branches.
            cache: encoder: its state serves several steps.
            cache_interval: with a cache, at every how many times of the grid the encoder runs.

        Raises:
            ConfigError: another kind of cache.
        """
        if cache not in (None, "encoder"):
            raise ConfigError(f"sampling.cache: expected off or encoder with this network, found {cache}")
        times = self.t_embedder(t_grid)  # (N, D)
        classes, class_of_row = y.unique(return_inverse=True)  # (U,), (R,)
        modulations = Modulations(list(self.blocks)[: self.encoder_depth], self.condition, times, classes)
        known: tuple[int, Tensor] | None = None

        def known_of(i: int, rows: slice) -> list[Tensor]:
            return [times[i], *(table[class_of_row[rows]] for table in modulations.at(i))]

        def encode(x_t: Tensor, time: Tensor, *modulations: Tensor) -> Tensor:
            tokens = self.enter_encoder(x_t).repeat(len(modulations[0]) // len(x_t), 1, 1)
            return self.widen(silu(time + self._run(tokens, None, modulations)))

        def decode(x_t: Tensor, state: Tensor) -> Tensor:
            return self.decode(x_t.repeat(len(state) // len(x_t), 1, 1, 1), state)

        def predict(x_t: Tensor, *known: Tensor) -> Tensor:
            return decode(x_t, encode(x_t, *known))

        @torch.no_grad()
        def step(x_t: Tensor, i: int, rows: slice = slice(None)) -> Tensor:
            nonlocal known
            self.check_input(x_t)
            if cache is None:
                return call(self.graphs, predict, x_t, *known_of(i, rows))
            if known is None or known[0] != i // cache_interval:
                # For all rows, also those that are not asked for now: a later step may ask for them.
                known = i // cache_interval, encode(x_t, *known_of(i, slice(None)))
            return decode(x_t, known[1][rows])

        return step

    def block_list(self) -> list[nn.Module]:
        """Return the blocks of encoder and decoder."""
        return list(self.blocks)

    def _run(
        self,
        tokens: Tensor,
        condition: Tensor | None,
        modulations: Sequence[Tensor] | None = None,
        *,
        of_decoder: bool = False,
        kept: dict[int, Any] | None = None,
    ) -> Tensor:
        """Take the tokens through the blocks of a half, in the blocks' type, and back to their own."""
        outer, inner = tokens.dtype, dtype_of(self.blocks)
        # A convolution leaves the channels of a token apart in memory, and every block would inherit that.
        tokens, condition = tokens.to(inner).contiguous(), None if condition is None else condition.to(inner)
        inputs = self.block_inputs(of_decoder=of_decoder)
        numbers = range(self.encoder_depth, len(self.blocks)) if of_decoder else range(self.encoder_depth)
        for i in numbers:
            tokens = self.blocks[i](tokens, condition, modulations[i] if modulations else None, **inputs)
            if kept and i + 1 in kept:
                kept[i + 1] = tokens
        return tokens.to(outer)
