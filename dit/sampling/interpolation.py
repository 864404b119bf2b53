"""Paths between two samples: between their noises, or between their classes."""

import torch
from torch import Tensor

from dit.diffusion.process import Model
from dit.sampling.network import condition_names, null_class_of


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Return the point at `share` in [0, 1] on the great circle from one noise to another, each sample for itself.

    Args:
        start: (B, ...) noise at share 0.
        end: (B, ...) noise at share 1.
        share: how far to go. Unlike on the straight line, the norm of what lies between stays that of noise.

    Source: Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985.
    """
    a, b = start.flatten(1).double(), end.flatten(1).double()
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    angle = cosine.clamp(-1, 1).acos()[:, None]  # (B, 1)
    mixed = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return torch.where(angle.sin() < 1e-9, a, mixed).to(start.dtype).view_as(start)


class ClassMixture:
    """A network between two classes: (1 - share) of its output for y plus share of that for another class.

    Along such a path the score is mixed, so both ends are the classes themselves, whatever embeds the labels.

    Args:
        model: the network, by the contract model(x_t, t, y).
        other: (B,) int64, the second class of each sample.
        shares: (B,) how far each sample is from y towards `other`, in [0, 1].

    Its null class, where the network has one, is mixed with nothing.
    """

    def __init__(self, model: Model, other: Tensor, shares: Tensor) -> None:
        self.model, self.other, self.shares = model, other, shares
        self.null_class, self.condition_names = null_class_of(model), condition_names(model)

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor, **conditions: Tensor) -> Tensor:
        """Return the mixed output; a guided batch of twice the samples has the null class in its second half."""
        repeats = len(y) // len(self.other)
        other, shares = self.other.repeat(repeats), self.shares.repeat(repeats).to(x_t)
        if self.null_class is not None:
            other = torch.where(y == self.null_class, y, other)
        told = {name: torch.cat([value, value]) for name, value in conditions.items()}
        output = self.model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([y, other]), **told)
        first, second = output.chunk(2)
        return first.lerp(second, shares[:, None, None, None])
