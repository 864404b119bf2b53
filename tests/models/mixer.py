"""A family from outside, as a user would write it: MLP-Mixer, its blocks modulated by time and label."""

from torch import nn

import dit
from dit.layers.embed import TimestepEmbedder
from dit.models.family import Arguments, Family
from dit.models.network import Network


class MixerArguments(Arguments):
    """Everything that decides a Mixer."""

    width: int = 64
    """Width of the tokens, one per latent pixel."""
    depth: int = 4
    """Number of blocks."""


class Block(nn.Module):
    def __init__(self, num_tokens, width):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.tokens = nn.Sequential(nn.Linear(num_tokens, num_tokens), nn.GELU(), nn.Linear(num_tokens, num_tokens))
        self.channels = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 2 * width)

    def forward(self, x, c):  # (B, T, D), (B, D)
        scale, shift = self.modulation(c)[:, None].chunk(2, dim=-1)
        h = self.norms[0](x) * (1 + scale) + shift
        x = x + self.tokens(h.transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norms[1](x))


class Mixer(Network):
    def __init__(self, arguments):
        super().__init__(arguments)
        (height, width), channels = arguments.input_size, arguments.in_channels
        rows = arguments.num_classes + (arguments.null_class is not None)
        self.embed = nn.Linear(channels, arguments.width)
        self.time = TimestepEmbedder(arguments.width)
        self.label = nn.Embedding(rows, arguments.width)
        self.blocks = nn.ModuleList(Block(height * width, arguments.width) for _ in range(arguments.depth))
        self.out = nn.Linear(arguments.width, channels)

    def forward(self, x_t, t, y):
        tokens = self.embed(x_t.flatten(2).transpose(1, 2))  # (B, T, D)
        c = self.time(t) + self.label(y)
        for block in self.blocks:
            tokens = block(tokens, c)
        return self.out(tokens).transpose(1, 2).unflatten(2, x_t.shape[2:])

    def block_list(self):
        return list(self.blocks)


VARIANTS = {"mixer_ti_1": {}, "mixer_s_1": {"width": 128}}
dit.register_family(Family("mixer", MixerArguments, f"{__name__}:Mixer", VARIANTS))
